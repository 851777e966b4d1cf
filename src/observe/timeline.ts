import type { PhaseMs, Slowest } from '../experiment/event.ts';
import { stepsKept } from '../fault/verdict.ts';
import { isReport, lostTpu, type Note } from '../pod/master/action.ts';
import type { RecordedEvent } from '../run/event.ts';
import type { RecordedRun } from '../run/read.ts';
import { type Incident, incidentOf, incidentOfFault } from './incident.ts';
import { type Period, RunClock } from './run-clock.ts';

/**
 * What happened in a recorded run, and when. All times are in ms since the first event of the run.
 * The record is a file that is not trusted, so numbers of Cloud TPUs and steps may be out of range.
 */
export interface Timeline {
  /** Number of Cloud TPUs of the run. */
  readonly tpus: number;
  /** Periods of the run, in order. A long pause between two masters separates two periods. */
  readonly periods: readonly Period[];
  /**
   * Periods that a picture shows: {@link periods} without most of the time at the start of the run
   * in which nothing happens. This time ends when the pod is ready or when the first incident
   * happens, whichever is earlier.
   */
  readonly shown: readonly Period[];
  /** Time when the pod was ready for the first step; undefined if it never was. */
  readonly readyMs: number | undefined;
  /** Period of the evaluation; undefined if there was none. */
  readonly evaluation: Period | undefined;
  readonly steps: readonly TimedStep[];
  readonly recoveries: readonly Recovery[];
  readonly absences: readonly Absence[];
  readonly repeats: readonly Repeat[];
  /** Faults, losses, checkpoints and other incidents, in the order of their times. */
  readonly incidents: readonly Incident[];
}

/** A committed step. */
export interface TimedStep extends Period {
  readonly step: number;
  /** Wall time as the run measured it, in ms. NaN if the record has none. */
  readonly wallMs: number;
  readonly loss: number;
  /** Mean time of each phase over all Cloud TPUs, in ms. */
  readonly phaseMs: PhaseMs;
  /** Times of each Cloud TPU in each phase, in ms; undefined if the record has none. */
  readonly tpuPhaseMs: readonly (readonly number[])[] | undefined;
  readonly slowest: Slowest | undefined;
  /** Periods in which the step ran: more than one if it was interrupted and ran again. */
  readonly attempts: readonly Period[];
  /** True if this step had been committed before, by an earlier master. */
  readonly isRepeated: boolean;
}

/** A recovery: from the first report of a fault to the next commit. */
export interface Recovery {
  readonly fromMs: number;
  /** Time when the pod was complete again; undefined if it never was. */
  readonly resumedMs: number | undefined;
  /** Time of the next commit; undefined if there was none. */
  readonly commitMs: number | undefined;
  readonly reports: readonly Note[];
}

/** A time in which a Cloud TPU had no worker that could take part in steps. */
export interface Absence {
  readonly tpu: number;
  readonly fromMs: number;
  /** Time when a worker was found for the Cloud TPU; undefined if none was. */
  readonly foundMs: number | undefined;
  /** Time when the Cloud TPU could take part in steps again; undefined if it never could. */
  readonly backMs: number | undefined;
  /**
   * How a worker was found: `replaced` by a new worker, `adopted` by the worker of another Cloud
   * TPU.
   */
  readonly by: 'replaced' | 'adopted' | undefined;
}

/** Returns the end of a recovery; `endMs` for a recovery that never ended. */
export function endOfRecovery({ resumedMs, commitMs }: Recovery, endMs: number): number {
  return resumedMs ?? commitMs ?? endMs;
}

/**
 * Returns the time at which a Cloud TPU without a worker got a worker; `endMs` if it never got one.
 * From this time on, the worker loads the program and the parameters.
 */
export function endOfAbsence({ foundMs, backMs }: Absence, endMs: number): number {
  return foundMs ?? backMs ?? endMs;
}

/** Committed steps that ran again because the pod returned to a checkpoint. */
export interface Repeat {
  readonly fromMs: number;
  /** Time of the first commit after the repeated steps; undefined if there was none. */
  readonly toMs: number | undefined;
  readonly firstStep: number;
  readonly lastStep: number;
}

/** Returns the timeline of a recorded run. */
export function timelineOf({ settings, events, judged }: RecordedRun): Timeline {
  const clock = new RunClock(events);
  const { columns, rows } = settings.config.topology;
  const reader = new Reader();
  for (const [i, event] of events.entries()) reader.take(event, clock.at(i));
  const faults = (judged?.faults ?? []).flatMap(({ fault, injectedMs }) =>
    injectedMs === undefined ? [] : [incidentOfFault(fault, clock.since(injectedMs))],
  );
  const incidents = [...faults, ...reader.incidents].sort((a, b) => a.ms - b.ms);
  const [found, periods] = [reader.found(), clock.periods()];
  const eventfulMs = Math.min(found.readyMs ?? 0, incidents[0]?.ms ?? Number.POSITIVE_INFINITY);
  const shown = withoutStart(periods, eventfulMs);
  return { tpus: columns * rows, periods, shown, incidents, ...found };
}

/**
 * A picture leaves out most of the time before anything happens, and shows only the end of this
 * time. Largest length of the shown end, as a share of the time after it.
 */
const startShare = 0.03;

/**
 * Returns the periods with a later start of the first period, so that most of the time before
 * `eventfulMs` is left out. `eventfulMs` is the time at which the first thing happens.
 */
function withoutStart(periods: readonly Period[], eventfulMs: number): readonly Period[] {
  const [first, ...others] = periods;
  if (first === undefined) return periods;
  const rest = periods.reduce(
    (sum, { from, to }) => sum + Math.max(0, to - Math.max(from, eventfulMs)),
    0,
  );
  const from = Math.min(first.to, Math.max(first.from, eventfulMs - startShare * rest));
  return [{ from, to: first.to }, ...others];
}

/** Longest time, in ms, that is believed: thirty thousand years. */
const believedMs = 1e15;

/** Returns a measured time in ms within believable limits. NaN, which is unknown, stays NaN. */
export function clamped(ms: number): number {
  return Math.max(0, Math.min(believedMs, ms));
}

/** A record whose fields can still be set. */
type Open<T> = { -readonly [K in keyof T]: T[K] };

/**
 * Value of `to` for a break that has not ended yet. A break is a period in which no step can run.
 */
const openEnd = Number.POSITIVE_INFINITY;

/** Collects what a timeline shows from the events of a run. The events must come in their order. */
class Reader {
  readonly incidents: Incident[] = [];
  readonly #steps: TimedStep[] = [];
  readonly #recoveries: Open<Recovery>[] = [];
  readonly #absences: Open<Absence>[] = [];
  readonly #repeats: Open<Repeat>[] = [];
  /** Breaks since the last commit: periods in which no step could run. */
  #breaks: Period[] = [];
  #recovery: Open<Recovery> | undefined;
  #readyMs: number | undefined;
  #evaluation: Period | undefined;
  #master: number | undefined;
  /** The next step cannot have begun before this time. */
  #earliestMs = 0;
  #lastMs = 0;
  #highestStep = 0;

  take(event: RecordedEvent, ms: number): void {
    if (event.master !== this.#master) this.#begin(event, ms);
    this.#lastMs = ms;
    const incident = incidentOf(event, ms);
    if (incident !== undefined) this.incidents.push(incident);
    if (event.kind === 'ready') this.#ready(ms);
    if (event.kind === 'note') this.#note(event.note, ms);
    if (event.kind === 'step') this.#commit(event, ms);
    if (event.kind === 'evaluating') this.#evaluation = { from: ms, to: ms };
    if (event.kind === 'evaluated') {
      this.#evaluation = { from: this.#evaluation?.from ?? ms, to: ms };
    }
  }

  found(): Pick<
    Timeline,
    'steps' | 'recoveries' | 'absences' | 'repeats' | 'readyMs' | 'evaluation'
  > {
    return {
      ...{ steps: this.#steps, recoveries: this.#recoveries, absences: this.#absences },
      ...{ repeats: this.#repeats, readyMs: this.#readyMs },
      evaluation: this.#evaluation && { from: this.#evaluation.from, to: this.#evaluationEnd() },
    };
  }

  /**
   * Returns the end of the evaluation: the time of the last event if the evaluation has not ended.
   */
  #evaluationEnd(): number {
    const { from, to } = this.#evaluation ?? { from: 0, to: 0 };
    return to > from ? to : this.#lastMs;
  }

  /** Handles the first event of a master. */
  #begin({ master }: RecordedEvent, ms: number): void {
    if (this.#master !== undefined) {
      const text = `master ${master} goes on with the run`;
      this.incidents.push({ ms, kind: 'master', tpu: null, step: null, text });
    }
    this.#master = master;
    this.#earliestMs = ms;
    this.#breaks = [];
  }

  #ready(ms: number): void {
    this.#readyMs ??= ms;
    this.#earliestMs = Math.max(this.#earliestMs, ms);
  }

  #note(note: Note, ms: number): void {
    if (isReport(note)) this.#report(note, ms);
    if (note.event === 'resumed') this.#resume(ms);
    if (note.event === 'rolled-back') {
      const [firstStep, lastStep] = [stepsKept(note) + 1, this.#highestStep];
      if (lastStep >= firstStep) {
        this.#repeats.push({ fromMs: ms, toMs: undefined, firstStep, lastStep });
      }
    }
    if (note.tpu !== null) this.#member(note, note.tpu, ms);
  }

  #report(note: Note, ms: number): void {
    if (this.#recovery === undefined) {
      this.#recovery = { fromMs: ms, resumedMs: undefined, commitMs: undefined, reports: [] };
      this.#recoveries.push(this.#recovery);
    }
    this.#recovery.reports = [...this.#recovery.reports, note];
    this.#recovery.resumedMs = undefined;
    if (this.#breaks.at(-1)?.to !== openEnd) this.#breaks.push({ from: ms, to: openEnd });
  }

  #resume(ms: number): void {
    if (this.#recovery !== undefined) this.#recovery.resumedMs = ms;
    const last = this.#breaks.at(-1);
    if (last?.to === openEnd) this.#breaks[this.#breaks.length - 1] = { ...last, to: ms };
    for (const absence of this.#absences) absence.backMs ??= ms;
  }

  /**
   * Handles a note that a Cloud TPU has lost its worker, has got another worker, or has got its
   * parameters.
   */
  #member(note: Note, tpu: number, ms: number): void {
    const { event } = note;
    const open = this.#absences.findLast((it) => it.tpu === tpu && it.backMs === undefined);
    if (lostTpu(note) !== null) {
      const missing = { foundMs: undefined, backMs: undefined, by: undefined };
      if (open === undefined) this.#absences.push({ tpu, fromMs: ms, ...missing });
      else Object.assign(open, missing);
      return;
    }
    if (open === undefined) return;
    if (event === 'replaced' || event === 'adopted')
      Object.assign(open, { foundMs: ms, by: event });
    if (event === 'restored') open.backMs = ms;
  }

  #commit(event: Extract<RecordedEvent, { readonly kind: 'step' }>, ms: number): void {
    const { step, loss, phaseMs, tpuPhaseMs, slowest } = event;
    const wallMs = clamped(event.wallMs);
    const begun = Number.isFinite(wallMs) ? ms - wallMs : this.#earliestMs;
    const from = Math.min(ms, Math.max(this.#earliestMs, begun));
    const attempts = attemptsOf({ from, to: ms }, this.#breaks);
    this.#steps.push({
      ...{ from, to: ms, step, wallMs, loss, phaseMs, tpuPhaseMs, slowest, attempts },
      isRepeated: step <= this.#highestStep,
    });
    this.#highestStep = Math.max(this.#highestStep, step);
    this.#earliestMs = ms;
    this.#breaks = [];
    if (this.#recovery !== undefined) this.#recovery.commitMs = ms;
    this.#recovery = undefined;
    for (const repeat of this.#repeats) repeat.toMs ??= ms;
  }
}

/**
 * Returns the periods in which a step ran. `whole` is the time from the first start of the step to
 * its commit. `breaks` are the interruptions of the step, in order of time. The result is `whole`
 * without the breaks.
 */
function attemptsOf(whole: Period, breaks: readonly Period[]): readonly Period[] {
  const attempts: Period[] = [];
  let from = whole.from;
  for (const it of breaks) {
    if (it.from > from) attempts.push({ from, to: it.from });
    from = Math.max(from, Math.min(it.to, whole.to));
  }
  return [...attempts, { from, to: whole.to }];
}
