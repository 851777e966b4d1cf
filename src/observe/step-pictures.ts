import { phases } from '../isa/executable.ts';
import { chartRange } from '../picture/frame.ts';
import { laneChart, type Span } from '../picture/lanes.ts';
import { lineChart, lineRange, type Series } from '../picture/lines.ts';
import type { Element } from '../picture/markup.ts';
import { linearScale, logScale } from '../picture/scale.ts';
import type { SpanLook } from '../picture/span.ts';
import { time } from './shown.ts';
import { isRepeated, type StepBin } from './step-bins.ts';
import { clamped, type TimedStep } from './timeline.ts';

/** Draws the wall time of each step. Undefined if no time is known. */
export function stepTimesPicture(bins: readonly StepBin[]): Element | undefined {
  const timed = bins.filter(({ longestMs }) => longestMs > 0);
  if (timed.length < 2) return undefined;
  const times = timed.flatMap(({ medianMs, longestMs }) => [longestMs, Math.max(medianMs, 1e-3)]);
  const smallest = times.reduce((least, it) => Math.min(least, it));
  const largest = times.reduce((most, it) => Math.max(most, it));
  const numbers = timed.map(numberOf);
  const first = numbers.reduce((least, it) => Math.min(least, it));
  const last = numbers.reduce((most, it) => Math.max(most, it));
  const isBinned = timed.some(({ steps }) => steps.length > 1);
  return lineChart({
    ...{ id: 'step-times', title: 'Wall time of each step' },
    description: `The wall times of the steps, from ${time(smallest)} to ${time(largest)}, on a logarithmic scale.`,
    x: linearScale({ from: first, to: last }, lineRange.x, Math.min(12, last - first)),
    y: logScale({ from: smallest * 0.8, to: largest * 1.25 }, lineRange.y),
    ...{ xLabel: 'step', yLabel: 'ms, logarithmic' },
    series: [
      ...(isBinned ? [lineOf('longest of several steps', 'orange', timed, 'longestMs')] : []),
      lineOf(isBinned ? 'median of several steps' : 'a step', 'blue', timed, 'medianMs'),
      ...repeatedSeries(timed),
    ],
  });
}

function lineOf(
  label: string,
  tone: Series['tone'],
  bins: readonly StepBin[],
  of: 'medianMs' | 'longestMs',
): Series {
  return { label, tone, points: bins.map((bin) => ({ x: numberOf(bin), y: bin[of] })) };
}

function repeatedSeries(bins: readonly StepBin[]): readonly Series[] {
  const again = bins.filter((bin) => bin.isRepeated);
  if (again.length === 0) return [];
  const points = again.map((bin) => {
    return {
      x: numberOf(bin),
      y: bin.longestMs,
      hint: `step ${numberOf(bin)} ran again: ${time(bin.longestMs)}`,
    };
  });
  return [{ label: 'ran again', tone: 'vermilion', form: 'dots', points }];
}

function numberOf({ steps }: StepBin): number {
  return steps[0]?.step ?? 0;
}

/**
 * Looks of the phases in pictures, in the order in which a step runs the phases. `commit` is the
 * time of a step outside of all phases.
 */
export const phaseLooks: Readonly<Record<keyof TimedStep['phaseMs'], SpanLook>> = {
  infeed: { tone: 'grey' },
  compute: { tone: 'blue' },
  'all-reduce': { tone: 'orange' },
  update: { tone: 'green' },
  outfeed: { tone: 'purple' },
  commit: { tone: 'ink', texture: 'striped' },
};

/**
 * Largest number of spans in all pictures of phases on one page. It bounds the size of the page,
 * because each span takes about 120 bytes.
 */
const spansMax = 8000;
/** Most rows for Cloud TPUs in a picture of phases. */
const rowsMax = 64;

/**
 * Returns the steps for which a page shows the phases of each Cloud TPU. It chooses steps in this
 * order until it reaches a limit: the step with the median time, the longest steps, the steps that
 * ran again, and the first step. The result has each step once, in the order of time.
 */
export function stepsToOpen(steps: readonly TimedStep[]): readonly TimedStep[] {
  const known = steps.filter(({ tpuPhaseMs }) => (tpuPhaseMs?.length ?? 0) > 0);
  const rows = Math.min(rowsMax, known[0]?.tpuPhaseMs?.length ?? 1);
  const most = Math.max(1, Math.min(24, Math.floor(spansMax / (rows * phases.length))));
  const longest = [...known].sort((a, b) => b.wallMs - a.wallMs);
  const median = longest.slice(longest.length >> 1, (longest.length >> 1) + 1);
  const wanted = [
    ...median,
    ...longest.slice(0, 4),
    ...known.filter(isRepeated),
    ...known.slice(0, 1),
  ];
  return [...new Set(wanted)].slice(0, most).sort((a, b) => a.from - b.from);
}

/**
 * Draws how long each Cloud TPU was in each phase of a step, one phase after the other. `id` is the
 * name of the picture.
 */
export function phasesPicture(id: string, step: TimedStep): Element {
  const rows = (step.tpuPhaseMs ?? []).slice(0, rowsMax);
  const spans = rows.flatMap((times, tpu) => spansOf(times, tpu));
  const longest = spans.reduce((most, { to }) => Math.max(most, to), 0);
  return laneChart({
    ...{ id, title: `Phases of step ${step.step} by Cloud TPU` },
    description: `The time of each Cloud TPU in each phase of step ${step.step}, one phase after the other. The longest took ${time(longest)}.`,
    lanes: rows.map((_, tpu) => `Cloud TPU ${tpu}`),
    ...{ spans, marks: [], xLabel: 'ms in each phase, one after the other' },
    x: linearScale({ from: 0, to: Math.max(longest, 1e-3) }, chartRange),
    legend: phases.map((phase) => ({ span: phaseLooks[phase], text: phase })),
  });
}

function spansOf(times: readonly number[], tpu: number): readonly Span[] {
  let from = 0;
  return phases.flatMap((phase, i): readonly Span[] => {
    const ms = clamped(times[i] ?? 0);
    if (!(ms > 0)) return [];
    const span = { firstLane: tpu, from, to: from + ms, look: phaseLooks[phase] };
    from += ms;
    return [{ ...span, hint: `Cloud TPU ${tpu}, ${phase}: ${time(ms)}` }];
  });
}
