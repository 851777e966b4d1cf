import { chartRange } from '../picture/frame.ts';
import { laneChart, type Mark, type Span } from '../picture/lanes.ts';
import type { LegendEntry } from '../picture/legend.ts';
import type { Element } from '../picture/markup.ts';
import { timeScale } from '../picture/scale.ts';
import type { MarkLook } from '../picture/shape.ts';
import type { SpanLook } from '../picture/span.ts';
import type { IncidentKind } from './incident.ts';
import { interruptionMs } from './run-figures.ts';
import { type RunReport, shownTpus, titleOf } from './run-report.ts';
import { time } from './shown.ts';
import { kindOfAttempt, nameOfBin, placeOfBin, type StepBin, timesRun } from './step-bins.ts';
import { stragglerPeriods } from './straggler-periods.ts';
import { endOfAbsence, endOfRecovery, type Timeline } from './timeline.ts';

/** Most rows for Cloud TPUs in the picture. */
const rowsMax = 64;
/** Most incidents that are drawn, and most spans of one kind. */
const drawnMax = 1000;

const spanLooks = {
  step: { look: { tone: 'sky' }, text: 'committed step' },
  interrupted: { look: { tone: 'sky', texture: 'striped' }, text: 'interrupted step' },
  again: { look: { tone: 'blue' }, text: 'step that ran again' },
  repeat: {
    look: { tone: 'blue', texture: 'striped' },
    text: 'steps since a checkpoint run again',
  },
  recovery: { look: { tone: 'orange' }, text: 'recovery' },
  absent: { look: { tone: 'ink', texture: 'striped' }, text: 'without a worker' },
  loading: { look: { tone: 'grey', texture: 'striped' }, text: 'loads' },
  slow: { look: { tone: 'purple', texture: 'striped' }, text: 'straggler' },
  evaluation: { look: { tone: 'green', texture: 'striped' }, text: 'evaluation' },
} as const satisfies Readonly<Record<string, { look: SpanLook; text: string }>>;
type SpanKind = keyof typeof spanLooks;

const markLooks: Readonly<Partial<Record<IncidentKind, MarkLook>>> = {
  fault: { shape: 'cross', tone: 'vermilion' },
  lost: { shape: 'wedge', tone: 'ink' },
  suspected: { shape: 'diamond', tone: 'orange' },
  quarantined: { shape: 'square', tone: 'purple' },
  replaced: { shape: 'triangle', tone: 'green' },
  adopted: { shape: 'plus', tone: 'green' },
  restored: { shape: 'ring', tone: 'green' },
  'rolled-back': { shape: 'bar', tone: 'purple' },
  resumed: { shape: 'circle', tone: 'green' },
  straggler: { shape: 'ring', tone: 'purple' },
  checkpoint: { shape: 'square', tone: 'blue' },
  'checkpoint-failed': { shape: 'cross', tone: 'ink' },
  evaluated: { shape: 'circle', tone: 'blue' },
  master: { shape: 'triangle', tone: 'ink' },
  stopped: { shape: 'bar', tone: 'ink' },
  failed: { shape: 'square', tone: 'vermilion' },
  finished: { shape: 'bar', tone: 'green' },
};

/** A span of the timeline, with its kind. */
type TimelineSpan = Span & { readonly kind: SpanKind };

/** Draws the timeline of a run: a row for the slice and one for each Cloud TPU. */
export function timelinePicture(report: RunReport, bins: readonly StepBin[]): Element {
  const { timeline } = report;
  const { tpus, leftOut } = shownTpus(timeline, rowsMax);
  const x = timeScale(timeline.shown, chartRange);
  const wanted = [...waitingSpans(timeline), ...stepSpans(bins), ...memberSpans(timeline)];
  const spans = wanted.flatMap((it) => inLanes(it, tpus));
  const marks = marksOf(timeline, tpus);
  const more = leftOut === 0 ? '' : ` ${leftOut} more Cloud TPUs are not shown.`;
  return laneChart({
    ...{ id: 'timeline', title: `Timeline: ${titleOf(report)}`, x, xLabel: `time, ${x.unit}` },
    description: `${descriptionOf(timeline)}${more}`,
    lanes: ['slice', ...tpus.map((tpu) => `Cloud TPU ${tpu}`)],
    ...{ spans, marks, legend: legendOf(spans, marks) },
  });
}

function descriptionOf({ steps, recoveries, incidents }: Timeline): string {
  const faults = incidents.filter(({ kind }) => kind === 'fault').length;
  const counts = `${steps.length} steps were committed, with ${faults} injected faults and ${recoveries.length} recoveries.`;
  return `One row for each Cloud TPU, time from left to right. ${counts}`;
}

/**
 * A span whose lanes (rows) are not known yet. `tpu` is the number of the Cloud TPU in whose row
 * the span lies; null for a span over all rows.
 */
interface Wanted extends Omit<TimelineSpan, 'firstLane' | 'lastLane'> {
  readonly tpu: number | null;
}

function inLanes({ tpu, ...span }: Wanted, tpus: readonly number[]): readonly TimelineSpan[] {
  if (tpu === null) return [{ ...span, firstLane: 0, lastLane: tpus.length }];
  const index = tpus.indexOf(tpu);
  return index < 0 ? [] : [{ ...span, firstLane: index + 1 }];
}

function spanOf(
  kind: SpanKind,
  tpu: number | null,
  { from, to }: { readonly from: number; readonly to: number },
  hint: string,
): Wanted {
  return { kind, look: spanLooks[kind].look, tpu, from, to, hint };
}

function stepSpans(bins: readonly StepBin[]): readonly Wanted[] {
  return bins.flatMap((bin, index) => {
    const hint = hintOf(bin);
    const target = placeOfBin(index);
    const [first] = bin.steps;
    if (bin.steps.length > 1 || first === undefined) {
      return [{ ...spanOf('step', null, bin, hint), target }];
    }
    return first.attempts.map((attempt, i): Wanted => {
      const kind = kindOfAttempt(first, i);
      const label = kind === 'interrupted' ? {} : { label: String(first.step) };
      return { ...spanOf(kind, null, attempt, hint), target, ...label };
    });
  });
}

function hintOf(bin: StepBin): string {
  const { medianMs, longestMs, steps } = bin;
  const [first] = steps;
  if (steps.length > 1 || first === undefined) {
    return `${nameOfBin(bin)}: median ${time(medianMs)}, longest ${time(longestMs)}`;
  }
  const phases = Object.entries(first.phaseMs).map(([name, ms]) => `${name} ${time(ms)}`);
  return `${nameOfBin(bin)}: ${time(longestMs)}${timesRun(first)} (${phases.join(', ')})`;
}

/**
 * Returns spans over all rows for the times in which no step can run: while the programs are
 * loaded, and during recoveries. The steps are drawn over these spans.
 */
function waitingSpans({ periods, readyMs, recoveries }: Timeline): readonly Wanted[] {
  const endMs = periods.at(-1)?.to ?? 0;
  const start = { from: periods[0]?.from ?? 0, to: readyMs ?? endMs };
  return [
    spanOf('loading', null, start, 'the programs are compiled and loaded'),
    ...recoveries.slice(0, drawnMax).map((recovery) => {
      const period = { from: recovery.fromMs, to: endOfRecovery(recovery, endMs) };
      const ms = interruptionMs(recovery);
      const until =
        ms === undefined ? 'no step followed' : `next commit ${time(ms)} after the report`;
      return spanOf('recovery', null, period, `recovery: ${until}`);
    }),
  ];
}

/**
 * Returns the spans that are drawn over the steps. The spans of repeated steps and of the
 * evaluation cover all rows. The other spans are in the row of one Cloud TPU: it has no worker,
 * loads, or is a straggler.
 */
function memberSpans(timeline: Timeline): readonly Wanted[] {
  const { periods, evaluation, absences, repeats } = timeline;
  const endMs = periods.at(-1)?.to ?? 0;
  return [
    ...repeats.slice(0, drawnMax).map(({ fromMs, toMs = endMs, firstStep, lastStep }) => {
      const hint = `steps ${firstStep} to ${lastStep} run again`;
      return spanOf('repeat', null, { from: fromMs, to: toMs }, hint);
    }),
    ...(evaluation ? [spanOf('evaluation', null, evaluation, 'evaluation')] : []),
    ...absences.slice(0, drawnMax).flatMap((absence) => {
      const { tpu, fromMs, backMs, by } = absence;
      const found = endOfAbsence(absence, endMs);
      const name = `Cloud TPU ${tpu}`;
      const load = { from: found, to: backMs ?? endMs };
      return [
        spanOf('absent', tpu, { from: fromMs, to: found }, `${name} has no worker`),
        spanOf('loading', tpu, load, `${name}, ${by ?? 'lost'}: loads`),
      ];
    }),
    ...stragglerPeriods(timeline)
      .slice(0, drawnMax)
      .map(({ tpu, text, ...period }) => spanOf('slow', tpu, period, text)),
  ];
}

function marksOf({ incidents }: Timeline, tpus: readonly number[]): readonly Mark[] {
  return incidents.slice(0, drawnMax).flatMap(({ kind, tpu, ms, text }): readonly Mark[] => {
    const look = markLooks[kind];
    const lane = tpu === null ? 0 : tpus.indexOf(tpu) + 1;
    if (look === undefined || (tpu !== null && lane === 0)) return [];
    const who = tpu === null ? '' : `, Cloud TPU ${tpu}`;
    return [{ lane, at: ms, look, hint: `${time(ms)}: ${kind}${who}: ${text}` }];
  });
}

function legendOf(spans: readonly TimelineSpan[], marks: readonly Mark[]): readonly LegendEntry[] {
  const kinds = new Set(spans.map(({ kind }) => kind));
  const looks = new Set(marks.map(({ look }) => look));
  return [
    ...Object.entries(spanLooks)
      .filter(([kind]) => kinds.has(kind as SpanKind))
      .map(([, { look, text }]) => ({ span: look, text })),
    ...Object.entries(markLooks)
      .filter(([, look]) => looks.has(look))
      .map(([kind, look]) => ({ mark: look, text: kind })),
  ];
}
