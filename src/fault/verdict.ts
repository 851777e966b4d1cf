import type { Grid } from '../fabric/torus.ts';
import { at } from '../numerics/assert.ts';
import { isReport, type Note } from '../pod/master/action.ts';
import { type Bound, parseBound, satisfies } from './bound.ts';
import { differenceIn, outOfOrder, type StepValues } from './differences.ts';
import {
  type CheckpointSeen,
  type Kept,
  lostCheckpoint,
  lostCommit,
  wrongCheckpoint,
} from './kept.ts';
import {
  type Expectations,
  type Fault,
  type FaultPlan,
  hitBy,
  isDiskFault,
  isMasterFault,
  type RecoveryPath,
  targetsOf,
} from './plan.ts';

/** What was seen of a run. Times are in ms, on one clock. */
export interface Observation {
  readonly outcome: 'done' | 'failed';
  /** Error of a failed run; empty otherwise. */
  readonly message: string;
  /** Committed steps, in the order of their commits. Steps count from 1. */
  readonly commits: readonly CommitSeen[];
  /** Injected faults, in order of time. `index` is the index of a fault in `FaultPlan.faults`. */
  readonly injections: readonly { readonly index: number; readonly ms: number }[];
  readonly notes: readonly { readonly ms: number; readonly note: Note }[];
  /** Stragglers that the run named. */
  readonly stragglers: readonly { readonly ms: number; readonly tpu: number }[];
  /** Times at which another master took over the run. Only simulated runs have them. */
  readonly takeovers?: readonly { readonly ms: number }[];
  /** Time when the pod was ready for the first step. */
  readonly beginMs: number;
  /** Time when the evaluation began; if the run ended before, the time of that end. */
  readonly endMs: number;
  /**
   * Batches of the evaluation after the training, in order, each recorded in the form of a commit.
   * Only simulated runs record them.
   */
  readonly evaluation?: readonly CommitSeen[];
  /**
   * Steps that were committed although not every Cloud TPU had reported the committed digest of the
   * weights. After them come such batches of the evaluation. Steps and batches are counted from 1.
   * Only simulated runs have them.
   */
  readonly disagreements?: readonly number[];
  /** What the disk of the masters has kept of the run. Only simulated runs have it. */
  readonly kept?: Kept;
}

/** A committed step. */
export interface CommitSeen extends StepValues {
  readonly ms: number;
  /** Wall time of the step, in ms: from the moment when it is requested to its commit. */
  readonly wallMs: number;
}

/** The same run without faults. */
export interface Reference {
  readonly commits: readonly StepValues[];
  /**
   * Batches of the evaluation, in order. Absent if the run does not evaluate, or if its batches are
   * not recorded.
   */
  readonly evaluation?: readonly StepValues[];
}

/** One line of a verdict. */
export interface Verdict {
  /** The expectation as the plan has it, such as `recovery.detection: <2s`. */
  readonly expectation: string;
  readonly holds: boolean;
  /** What was found, in words. */
  readonly found: string;
}

/**
 * What happened to a fault of the plan. Times are in ms. A time is undefined if its event never
 * happened, for example if the fault was never reported.
 */
export interface FaultOutcome {
  readonly index: number;
  readonly fault: Fault;
  readonly injectedMs: number | undefined;
  /** Time from the injection of the fault to its first report. */
  readonly detectionMs: number | undefined;
  /**
   * Recovery time: from the injection of the fault to the first commit after its first report.
   * Without a report, from the injection to the first commit after the injection.
   */
  readonly recoveryMs: number | undefined;
  /**
   * Cloud TPU that the first report names. It is null if the report names no Cloud TPU, and
   * undefined if there is no report.
   */
  readonly blamed: number | null | undefined;
}

/** Judges a run: one line for each expectation of the plan, in the order of `Expectations`. */
export function judge(
  plan: FaultPlan,
  grid: Grid,
  seen: Observation,
  reference: Reference | undefined,
): readonly Verdict[] {
  const { expect } = plan;
  const outcomes = outcomesOf(plan, grid, seen);
  const lines: (Verdict | undefined)[] = [
    unreached(outcomes),
    judgeOutcome(expect.outcome ?? 'done', seen),
    expect.weights && judgeWeights(seen, reference),
    expect.samples && judgeSamples(seen, reference),
    expect.steps && judgeSteps(seen),
    ...judgeRecovery(expect.recovery ?? {}, seen, outcomes),
    expect.culprit && judgeCulprit(outcomes, grid),
    ...(expect.sometimes ?? []).map((path) => judgePath(path, seen)),
    expect.goodput === undefined ? undefined : judgeGoodput(expect.goodput, seen),
  ];
  return lines.filter((line) => line !== undefined);
}

/**
 * Returns what happened to each fault of the plan, in the order of the plan. `grid` is the slice on
 * which the plan ran.
 */
export function outcomesOf(
  { faults }: FaultPlan,
  grid: Grid,
  seen: Observation,
): readonly FaultOutcome[] {
  const injected = faults.flatMap((fault, index): Injected[] => {
    const found = seen.injections.find((it) => it.index === index);
    return found === undefined ? [] : [{ index, ms: found.ms, fault, hit: hitBy(fault, grid) }];
  });
  return faults.map((fault, index): FaultOutcome => {
    const own = injected.find((it) => it.index === index);
    const unseen = { detectionMs: undefined, recoveryMs: undefined, blamed: undefined };
    if (own === undefined) return { index, fault, injectedMs: undefined, ...unseen };
    const injectedMs = own.ms;
    const report = reportOf(own, injected, seen);
    const detectionMs = report && report.ms - injectedMs;
    const commit = seen.commits.find(({ ms }) => ms >= (report?.ms ?? injectedMs));
    const recoveryMs = commit && commit.ms - injectedMs;
    return { index, fault, injectedMs, detectionMs, recoveryMs, blamed: report?.tpu };
  });
}

/**
 * Returns the first report of a fault after its injection. The fault `slow` is reported as a
 * straggler. A fault of the master or of its disk is reported by the next master that takes over.
 * Every other fault is reported as a loss, a suspicion or a quarantine.
 *
 * A report may name a Cloud TPU that this fault does not hit. Such a report does not count if
 * another fault explains it. Another fault explains the report if it hits this Cloud TPU and was
 * injected before the report.
 */
function reportOf(
  { index, fault, ms: injectedMs, hit }: Injected,
  all: readonly Injected[],
  seen: Observation,
): Report | undefined {
  return reportsFor(fault, seen).find(({ ms, tpu }) => {
    if (ms < injectedMs) return false;
    if (tpu === null || hit.includes(tpu)) return true;
    return !all.some((it) => it.index !== index && it.ms <= ms && it.hit.includes(tpu));
  });
}

/** Returns all reports of the kind by which the given fault is noticed. */
function reportsFor(fault: Fault, seen: Observation): readonly Report[] {
  const { notes, stragglers, takeovers = [] } = seen;
  if (fault.fault === 'slow') return stragglers;
  const endsMaster = isDiskFault(fault) || isMasterFault(fault);
  if (endsMaster && fault.fault !== 'master-cut-off') {
    return takeovers.map(({ ms }) => ({ ms, tpu: null }));
  }
  return notes.filter(({ note }) => isReport(note)).map(({ ms, note }) => ({ ms, tpu: note.tpu }));
}

/** A fault that was injected, and when. */
interface Injected {
  readonly index: number;
  readonly fault: Fault;
  readonly ms: number;
  /** Cloud TPUs that the fault may hit. The fault explains a report that names one of them. */
  readonly hit: readonly number[];
}

/** A report of a fault; `tpu` is null if the report names no Cloud TPU. */
interface Report {
  readonly ms: number;
  readonly tpu: number | null;
}

function unreached(outcomes: readonly FaultOutcome[]): Verdict {
  const missed = outcomes.filter(({ injectedMs }) => injectedMs === undefined);
  const names = missed.map(({ index, fault }) => `${fault.fault} (faults.${index})`);
  return {
    expectation: 'every planned fault is injected',
    holds: missed.length === 0,
    found:
      missed.length === 0 ? `${outcomes.length} injected` : `never reached: ${names.join(', ')}`,
  };
}

function judgeOutcome(expected: 'done' | 'failed', { outcome, message }: Observation): Verdict {
  return {
    expectation: `outcome: ${expected}`,
    holds: outcome === expected,
    found: message === '' ? outcome : `${outcome}: ${message}`,
  };
}

function judgeWeights(seen: Observation, reference: Reference | undefined): Verdict {
  const expectation = 'weights: bit-identical';
  const broken = (found: string): Verdict => ({ expectation, holds: false, found });
  const found = seen.commits.at(-1)?.digest;
  if (reference?.commits.length !== seen.commits.length || found === undefined) {
    return broken('no weights to compare');
  }
  const other = differenceIn(seen.commits, reference.commits, 'digest');
  if (other !== undefined) {
    return broken(`${other.found} after step ${other.step}, without faults ${other.expected}`);
  }
  const batch = firstOther(seen.evaluation ?? [], reference.evaluation ?? [], 'digest');
  if (batch !== undefined) return broken(`${batch.digest} in the evaluation`);
  const [step] = seen.disagreements ?? [];
  if (step !== undefined) {
    return broken(`step ${step} was committed, and the Cloud TPUs had different weights`);
  }
  const lost = lostCheckpointIn(seen) ?? wrongCheckpoint(seen.kept, reference.commits);
  return lost === undefined ? { expectation, holds: true, found } : broken(lost);
}

/**
 * Names the first checkpoint that a run has lost; undefined if there is none. See
 * {@link lostCheckpoint}.
 */
export function lostCheckpointIn({
  kept,
  outcome,
  commits,
  notes,
}: Observation): string | undefined {
  const returns = notes.flatMap(({ ms, note }): CheckpointSeen[] =>
    note.event === 'rolled-back' ? [{ ms, step: stepsKept(note) }] : [],
  );
  return lostCheckpoint(kept, returns, outcome === 'done' ? commits.at(-1) : undefined);
}

/**
 * Judges whether each step took the right examples. The judge compares the loss of the step with
 * the loss of the same step in the run without faults. The loss follows from the weights and the
 * examples of the step, so wrong examples change the loss. Batches of the evaluation are compared
 * in the same way if both runs have them.
 */
function judgeSamples(seen: Observation, reference: Reference | undefined): Verdict {
  const expectation = 'samples: exactly-once';
  const broken = (found: string): Verdict => ({ expectation, holds: false, found });
  const { commits, evaluation = [] } = seen;
  const batches = reference?.evaluation ?? [];
  if (reference === undefined || commits.length !== reference.commits.length) {
    return broken(`${commits.length} committed steps to compare`);
  }
  if (seen.evaluation !== undefined && evaluation.length !== batches.length) {
    return broken(`${evaluation.length} batches of the evaluation, not ${batches.length}`);
  }
  const step = firstOther(commits, reference.commits, 'loss');
  if (step !== undefined) return broken(`the loss of step ${step.step} is ${step.loss}`);
  const batch = firstOther(evaluation, batches, 'loss');
  if (batch !== undefined) {
    return broken(`the loss of batch ${batch.step} of the evaluation is ${batch.loss}`);
  }
  const found = `the loss of each of ${commits.length} steps is that without faults`;
  return { expectation, holds: true, found };
}

/** Returns the first commit whose digest or loss differs from the commit at the same index. */
function firstOther(
  commits: readonly StepValues[],
  reference: readonly StepValues[],
  field: 'digest' | 'loss',
): StepValues | undefined {
  return commits.find((it, i) => !Object.is(it[field], reference[i]?.[field]));
}

function judgeSteps({ commits, kept }: Observation): Verdict {
  const expectation = 'steps: committed-once';
  const odd = outOfOrder(commits);
  const wrong = odd ? `step ${odd.step} after step ${odd.after}` : lostCommit(kept, commits);
  const found = wrong ?? `${commits.length} steps, each once and in order`;
  return { expectation, holds: wrong === undefined, found };
}

function judgeRecovery(
  expected: NonNullable<Expectations['recovery']>,
  seen: Observation,
  outcomes: readonly FaultOutcome[],
): readonly (Verdict | undefined)[] {
  const injected = outcomes.filter(({ injectedMs }) => injectedMs !== undefined);
  // In a run that is done, no commit follows a fault in the evaluation. So `recovery.time` is not
  // judged for such a fault.
  const lastMs = seen.outcome === 'done' ? (seen.commits.at(-1)?.ms ?? 0) : Number.MAX_VALUE;
  const inTraining = injected.filter(
    ({ fault, injectedMs }) => recoversFrom(fault) && (injectedMs ?? 0) <= lastMs,
  );
  const times = (all: readonly FaultOutcome[], name: 'detectionMs' | 'recoveryMs') =>
    all.map((it) => it[name] ?? Number.POSITIVE_INFINITY);
  const detections = times(injected, 'detectionMs');
  const recoveries = times(inTraining, 'recoveryMs');
  const ofTimes = (name: string, text: string | undefined, values: readonly number[]) =>
    injected.length === 0
      ? unmeasured(name, text)
      : bounded(name, 'time', text, values, milliseconds);
  return [
    bounded('recovery.steps', 'number', expected.steps, [repeatedSteps(seen)], String),
    ofTimes('recovery.detection', expected.detection, detections),
    ofTimes('recovery.time', expected.time, recoveries),
  ];
}

/** True if a run recovers from the fault. It does not from `slow`: it goes on with a straggler. */
export function recoversFrom({ fault }: Fault): boolean {
  return fault !== 'slow';
}

/** Returns the verdict on a bound of times of faults in a run into which no fault was injected. */
function unmeasured(name: string, text: string | undefined): Verdict | undefined {
  if (text === undefined) return undefined;
  return { expectation: `${name}: ${text}`, holds: false, found: 'no fault to measure' };
}

/**
 * Number of committed steps that ran again. Each return to a checkpoint repeats the steps that were
 * committed after that checkpoint.
 */
function repeatedSteps({ notes, commits }: Observation): number {
  return notes.reduce((sum, { ms, note }) => {
    if (note.event !== 'rolled-back') return sum;
    const committed = commits.filter((it) => it.ms < ms).length;
    return sum + committed - stepsKept(note);
  }, 0);
}

/**
 * Returns the number of committed steps that were kept in a return to a checkpoint (`rolled-back`).
 */
export function stepsKept({ cause }: Note): number {
  return Number(/after (\d+)/.exec(cause)?.[1] ?? 0);
}

/**
 * Judges whether all values satisfy the bound `text`. The verdict shows the first value that does
 * not satisfy the bound. If there is no such value, the verdict shows the largest value. The bound
 * holds if there are no values. `name` is the name of the expectation.
 */
function bounded(
  name: string,
  of: 'time' | 'number',
  text: string | undefined,
  values: readonly number[],
  show: (value: number) => string,
): Verdict | undefined {
  if (text === undefined) return undefined;
  const bound = parseBound(text, of) as Bound;
  const wrong = values.find((value) => !satisfies(bound, value));
  const shown = wrong ?? Math.max(...values);
  const found = values.length === 0 ? 'no fault from which a step must recover' : show(shown);
  return { expectation: `${name}: ${text}`, holds: wrong === undefined, found };
}

function milliseconds(ms: number): string {
  return Number.isFinite(ms) ? `${Math.round(ms)} ms` : 'never';
}

function judgeCulprit(outcomes: readonly FaultOutcome[], grid: Grid): Verdict {
  const wrong = outcomes.find(({ fault, blamed, injectedMs }) => {
    const targets = targetsOf(fault, grid);
    if (injectedMs === undefined || targets.length === 0) return false;
    return blamed === undefined || blamed === null || !targets.includes(blamed);
  });
  const found =
    wrong === undefined
      ? 'the first report of each fault names its target'
      : `${wrong.fault.fault} (faults.${wrong.index}): ${describeBlame(wrong)}`;
  return { expectation: 'culprit: named', holds: wrong === undefined, found };
}

function describeBlame({ blamed }: FaultOutcome): string {
  if (blamed === undefined) return 'no report';
  return blamed === null ? 'the report names no Cloud TPU' : `the report names Cloud TPU ${blamed}`;
}

/** Events of the log that show that a recovery path was taken. */
export const pathEvents: Readonly<Record<RecoveryPath, readonly Note['event'][]>> = {
  'peer-recovery': ['restored'],
  adoption: ['adopted'],
  'checkpoint-recovery': ['rolled-back'],
  quarantine: ['quarantined'],
};

function judgePath(path: RecoveryPath, { notes }: Observation): Verdict {
  const count = notes.filter(({ note }) => pathEvents[path].includes(note.event)).length;
  return { expectation: `sometimes: ${path}`, holds: count > 0, found: `taken ${count} times` };
}

/** Judges the goodput of a run, see {@link goodputOf}. `text` is the bound, such as `>=0.9`. */
function judgeGoodput(text: string, seen: Observation): Verdict {
  const share = goodputOf(seen);
  const bound = parseBound(text, 'number') as Bound;
  const holds = satisfies(bound, share);
  return {
    expectation: `goodput: ${text}`,
    holds,
    found: `${(100 * share).toFixed(1)} % of the training time`,
  };
}

/** Committed steps of a run, and the times when the training began and ended. Times are in ms. */
export interface TimedCommits extends Pick<Observation, 'beginMs' | 'endMs'> {
  readonly commits: readonly Pick<CommitSeen, 'wallMs'>[];
}

/**
 * Goodput of a run: the share of the training time that was spent on committed steps. The training
 * time is from `beginMs` to `endMs`: start and evaluation do not count. The time spent is taken as
 * the number of committed steps times the median wall time of a committed step.
 */
export function goodputOf({ commits, beginMs, endMs }: TimedCommits): number {
  if (commits.length === 0) return 0;
  const sorted = commits.map(({ wallMs }) => wallMs).sort((a, b) => a - b);
  const median = at(sorted, Math.floor(sorted.length / 2));
  return Math.min(1, (median * commits.length) / Math.max(1e-9, endMs - beginMs));
}
