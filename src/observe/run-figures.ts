import { quantile } from '../experiment/statistics.ts';
import { goodputOf, recoversFrom } from '../fault/verdict.ts';
import type { RecordedRun } from '../run/read.ts';
import type { Period } from './run-clock.ts';
import type { Recovery, Timeline } from './timeline.ts';

/** The figures of a recorded run. Times are in ms. A figure that is unknown is undefined. */
export interface RunFigures {
  /** How the run ended; `unknown` if the record ends before the run. */
  readonly outcome: 'done' | 'stopped' | 'failed' | 'unknown';
  /**
   * Error of a failed run, the last step of a stopped run, or, if the outcome is `unknown`, where
   * the record ends. Otherwise the text is empty.
   */
  readonly why: string;
  /** Number of committed steps. */
  readonly committed: number;
  /** Number of steps that the run was set to train. */
  readonly steps: number;
  /**
   * Number of times that a step ran again: after an interruption, after a return to a checkpoint,
   * or because a later master ran a committed step again.
   */
  readonly ranAgain: number;
  /** Time from the first event to the last one, without long pauses between masters. */
  readonly wallMs: number;
  /**
   * Time in which the run trained: from the time when the pod was ready to the start of the
   * evaluation. Without an evaluation, the training ends with the last commit. Long pauses between
   * masters do not count.
   */
  readonly trainingMs: number | undefined;
  readonly stepMs: { readonly p50: number; readonly p95: number; readonly max: number } | undefined;
  /** Share of `trainingMs` that was spent on committed steps, from 0 to 1. */
  readonly goodput: number | undefined;
  readonly finalLoss: number | undefined;
  readonly accuracy: number | undefined;
  readonly digest: string | undefined;
  /**
   * Times from the injection of a fault to its first report. Undefined if no fault was injected.
   */
  readonly detection: TimesFound | undefined;
  /**
   * Recovery times: from the injection of a fault to the first commit after its report, as in the
   * table of faults. Undefined if no fault was injected from which a run recovers.
   */
  readonly recovery: TimesFound | undefined;
  /**
   * Times from the first report of a fault to the next commit. They are known without a plan too.
   * Undefined if there was no report.
   */
  readonly interruption: TimesFound | undefined;
  readonly blamed: readonly Blame[];
  readonly checkpoints: number;
  /** Number of events that could not be recorded. */
  readonly eventsLost: number;
}

/** Summary of the times of several detections or recoveries, in ms. */
export interface TimesFound {
  readonly count: number;
  /**
   * How many of the `count` detections or recoveries never happened. `p50` and `max` leave them
   * out.
   */
  readonly never: number;
  readonly p50: number;
  readonly max: number;
}

/** How often a Cloud TPU was named as being at fault. */
export interface Blame {
  readonly tpu: number;
  readonly lost: number;
  readonly suspected: number;
  readonly quarantined: number;
  readonly straggler: number;
}

/** Returns the figures of a recorded run. */
export function figuresOf(run: RecordedRun, timeline: Timeline): RunFigures {
  const { steps, recoveries, repeats, incidents } = timeline;
  const training = trainingOf(timeline);
  const wallMs = steps.map((it) => it.wallMs).filter(Number.isFinite);
  const injected = run.judged?.faults.filter(({ injectedMs }) => injectedMs !== undefined) ?? [];
  const mended = injected.filter(({ fault }) => recoversFrom(fault));
  const repeated = repeats.reduce((sum, it) => sum + it.lastStep - it.firstStep + 1, 0);
  const again = steps.reduce((sum, it) => sum + it.attempts.length - 1 + Number(it.isRepeated), 0);
  return {
    ...endOf(run),
    committed: new Set(steps.map(({ step }) => step)).size,
    steps: run.settings.key.steps,
    ranAgain: again + repeated,
    wallMs: lengthIn(timeline.periods, { from: 0, to: Number.POSITIVE_INFINITY }),
    trainingMs: training && lengthIn(timeline.periods, training),
    ...{ stepMs: stepTimes(wallMs), goodput: goodput(timeline, wallMs, training) },
    finalLoss: steps.at(-1)?.loss,
    accuracy: run.events.findLast((it) => it.kind === 'evaluated')?.accuracy,
    digest: run.events.findLast((it) => it.kind === 'step')?.digest,
    detection: timesOf(injected.map(({ detectionMs }) => detectionMs)),
    recovery: timesOf(mended.map((it) => it.recoveryMs)),
    interruption: timesOf(recoveries.map(interruptionMs)),
    blamed: blamedIn(timeline),
    checkpoints: incidents.filter(({ kind }) => kind === 'checkpoint').length,
    eventsLost: run.lost,
  };
}

/**
 * Returns the time from the first report of a fault to the next commit, in ms; undefined if no commit
 * followed.
 */
export function interruptionMs({ fromMs, commitMs }: Recovery): number | undefined {
  return commitMs === undefined ? undefined : commitMs - fromMs;
}

function endOf({ events, judged }: RecordedRun): Pick<RunFigures, 'outcome' | 'why'> {
  const last = events.at(-1);
  const end = events.findLast(({ kind, master }) => {
    return master === last?.master && ['finished', 'stopped', 'failed'].includes(kind);
  });
  switch (end?.kind) {
    case 'finished':
      return { outcome: 'done', why: '' };
    case 'stopped':
      return { outcome: 'stopped', why: `after step ${end.step}` };
    case 'failed':
      return { outcome: 'failed', why: end.message };
    default:
      // A record of a simulation has no event for the end of a run that is done.
      if (judged?.events !== undefined && last !== undefined && last.n + 1 >= judged.events) {
        return { outcome: judged.outcome, why: judged.message };
      }
      return { outcome: 'unknown', why: cutText(last) };
  }
}

/** Says where a record ends whose run has no end. `last` is its last event. */
function cutText(last: RecordedRun['events'][number] | undefined): string {
  if (last === undefined) {
    return 'the record has no events: the run may not have begun, or was killed, or the file was cut';
  }
  const of = last.master === 0 ? '' : ` of master ${last.master}`;
  return `the record ends after event ${last.n}${of}: the run may still go on, or was killed, or the file was cut`;
}

function trainingOf({ readyMs, evaluation, steps }: Timeline): Period | undefined {
  const to = evaluation?.from ?? steps.at(-1)?.to;
  return readyMs === undefined || to === undefined ? undefined : { from: readyMs, to };
}

/** Returns how much of the range `within` lies in the periods. */
function lengthIn(periods: readonly Period[], within: Period): number {
  return periods.reduce((sum, { from, to }) => {
    return sum + Math.max(0, Math.min(to, within.to) - Math.max(from, within.from));
  }, 0);
}

function stepTimes(wallMs: readonly number[]): RunFigures['stepMs'] {
  if (wallMs.length === 0) return undefined;
  return { p50: quantile(wallMs, 0.5), p95: quantile(wallMs, 0.95), max: quantile(wallMs, 1) };
}

function goodput(
  { periods }: Timeline,
  wallMs: readonly number[],
  training: Period | undefined,
): number | undefined {
  if (training === undefined || wallMs.length === 0) return undefined;
  const commits = wallMs.map((it) => ({ wallMs: it }));
  return goodputOf({ commits, beginMs: 0, endMs: lengthIn(periods, training) });
}

function timesOf(all: readonly (number | undefined)[]): TimesFound | undefined {
  if (all.length === 0) return undefined;
  const times = all.filter((it) => it !== undefined).filter(Number.isFinite);
  const found = { p50: quantile(times, 0.5), max: quantile(times, 1) };
  return { count: all.length, never: all.length - times.length, ...found };
}

function blamedIn({ incidents }: Timeline): readonly Blame[] {
  const kinds = ['lost', 'suspected', 'quarantined', 'straggler'] as const;
  const all = new Map<number, Record<(typeof kinds)[number], number>>();
  for (const { tpu, kind } of incidents) {
    const named = kinds.find((it) => it === kind);
    if (tpu === null || named === undefined) continue;
    const counts = all.get(tpu) ?? { lost: 0, suspected: 0, quarantined: 0, straggler: 0 };
    counts[named]++;
    all.set(tpu, counts);
  }
  return [...all].sort(([a], [b]) => a - b).map(([tpu, counts]) => ({ tpu, ...counts }));
}
