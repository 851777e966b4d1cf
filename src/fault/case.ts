import { formatTopology, type Topology } from '../fabric/torus.ts';
import type { RecoveryPolicy } from '../pod/master/options.ts';
import type { Expectations, Fault, FaultPlan, Ground } from './plan.ts';

/** Settings of a run into which `pod chaos search` injects faults. */
export interface CaseRun {
  readonly topology: Topology;
  /** `mlp` has one bucket of gradients, `cnn` has two. */
  readonly model: 'mlp' | 'cnn';
  readonly steps: number;
  /** Number of batches of the evaluation, at least 1. */
  readonly batches: number;
  /** Number of steps from one checkpoint to the next; undefined for a run without checkpoints. */
  readonly checkpointEvery?: number;
  /** Number of checkpoints to keep. Default: that of the settings of a run. */
  readonly keep?: number;
  readonly recovery: RecoveryPolicy;
  /** Seed of the weights, and in a simulation also of all times. */
  readonly seed: number;
}

/** A run with faults that `pod chaos search` tries, and how the run must end. */
export interface Case {
  readonly run: CaseRun;
  readonly faults: readonly Fault[];
  readonly outcome: 'done' | 'failed';
}

/**
 * Returns the fault plan of a case. It expects all invariants that a plan can express. `ground` is
 * the kind of pod, on which the limits of time depend.
 */
export function planOf({ run, faults, outcome }: Case, ground: Ground): FaultPlan {
  return { run: settingsOf(run), faults, expect: expectationsOf(faults, outcome, ground) };
}

/** Cores of a Cloud TPU. The global batch has one image for each core. */
const coresOfTpu = 8;

function settingsOf(run: CaseRun): FaultPlan['run'] {
  const { topology, model, steps, batches, checkpointEvery, keep, recovery, seed } = run;
  const globalBatch = coresOfTpu * topology.columns * topology.rows;
  return {
    ...{ topology: formatTopology(topology), model, steps, globalBatch },
    ...{ evaluate: batches * globalBatch, seed },
    ...(recovery !== 'replace' && { recovery }),
    ...(checkpointEvery !== undefined && { checkpoint: 'checkpoints', every: checkpointEvery }),
    ...(checkpointEvery !== undefined && keep !== undefined && { keep }),
  };
}

function expectationsOf(
  faults: readonly Fault[],
  outcome: Case['outcome'],
  ground: Ground,
): Expectations {
  if (outcome === 'failed') return { steps: 'committed-once', outcome };
  return {
    ...{ weights: 'bit-identical', samples: 'exactly-once', steps: 'committed-once' },
    recovery: { time: `<=${Math.ceil(progressMsLimit(faults, ground) / 1000)}s` },
  };
}

/** Longest times, in ms, that a run may take from a fault to the next commit. */
interface ProgressLimits {
  /**
   * For a fault in a membership. The slowest case is a worker that hangs while it loads. After 60 s
   * this worker counts as lost, in processes and containers after 120 s. Its replacement has 10 s to
   * join. The limit is 5 s longer than both together.
   */
  readonly inMembershipMs: number;
  /**
   * For a fault in a step. In a simulation two cases are the slowest. A worker that hangs in the
   * first step counts as lost after 9.6 s. A connection on which nothing arrives any more is reported
   * after 11 s. The other pods get twice the time, because their times depend on the speed of the
   * machine: the longest recovery that was measured is 15 s.
   */
  readonly inStepMs: number;
  /** Time that a run may take longer, whatever its faults. */
  readonly spareMs: number;
}

const threads: ProgressLimits = { inMembershipMs: 75_000, inStepMs: 30_000, spareMs: 30_000 };
const processes: ProgressLimits = { ...threads, inMembershipMs: 135_000 };

const progressLimits: Readonly<Record<Ground, ProgressLimits>> = {
  sim: { inMembershipMs: 75_000, inStepMs: 15_000, spareMs: 5000 },
  threads,
  processes,
  containers: processes,
};

/**
 * Returns the longest time, in ms, that a run may take from a fault to the next commit. `faults`
 * are all faults of the run. All of them may come before that commit, so their times are added.
 */
export function progressMsLimit(faults: readonly Fault[], ground: Ground): number {
  const { inMembershipMs, inStepMs, spareMs } = progressLimits[ground];
  const limitOf = ({ at }: Fault): number => ('step' in at ? inStepMs : inMembershipMs);
  return faults.reduce((sum, fault) => sum + limitOf(fault) + lastingMs(fault), spareMs);
}

/**
 * Factor by which the duration of a pause is multiplied in the limit of time. The pause itself
 * counts once. After the pause, it may take four times as long until a worker that hangs counts as
 * lost.
 */
const pauseFactor = 5;

/** Returns how long a fault lasts by itself, in ms; 0 if it has no duration in ms. */
function lastingMs(fault: Fault): number {
  const ms = 'for' in fault ? (fault.for?.ms ?? 0) : 0;
  return fault.fault === 'pause' ? pauseFactor * ms : ms;
}
