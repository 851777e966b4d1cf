import type { Remat } from '../compiler/compile.ts';
import type { NetworkName } from '../model/networks.ts';
import { PodError } from '../numerics/error.ts';
import type { RecoveryPolicy } from '../pod/master/options.ts';
import { coresPerCloudTpu } from '../spec/tpu-v2.ts';

/**
 * The checked settings of a run. Some settings do not influence the bits of the result:
 * src/experiment/same-run.ts defines which settings do.
 */
export interface TrainConfig {
  /** Grid of Cloud TPUs, columns along X and rows along Y. */
  readonly topology: { readonly columns: number; readonly rows: number };
  readonly model: NetworkName;
  readonly data: string;
  /** Number of examples in a step, over all replicas; a multiple of the number of replicas. */
  readonly globalBatch: number;
  readonly length:
    | { readonly unit: 'steps'; readonly steps: number }
    | { readonly unit: 'epochs'; readonly epochs: number };
  readonly learningRate: number;
  readonly schedule: ScheduleName;
  /** Fraction of the run's steps over which the learning rate rises linearly from 0. */
  readonly warmUp: number;
  readonly momentum: number;
  readonly seed: number;
  readonly precision: 'bf16' | 'f32';
  readonly mxu: 'fast' | 'systolic';
  /**
   * When values are computed a second time to save HBM; by default only if the program would not fit.
   * The bits of the result do not depend on it.
   */
  readonly remat?: Remat;
  /** Policy for the loss of a Cloud TPU. The bits of the result do not depend on it. */
  readonly recovery: RecoveryPolicy;
  /** Number of held-out images to evaluate on, rounded up to whole batches; undefined means all. */
  readonly evaluate: number | undefined;
  /**
   * Path of a checkpoint, or of a folder of checkpoints. The run begins with the weights of this
   * checkpoint, or of the newest good checkpoint in the folder. If there is no path, the initial
   * weights are drawn from `seed`.
   */
  readonly startFrom?: string;
}

/** Names of the schedules of the learning rate. */
export const scheduleNames = ['constant', 'linear-scaling', 'piecewise', 'cosine'] as const;
/** One of {@link scheduleNames}. */
export type ScheduleName = (typeof scheduleNames)[number];

/** Number of replicas of a Cloud TPU. Each core is a replica. */
export const replicasPerCloudTpu: number = coresPerCloudTpu;

/** Returns the number of Cloud TPUs of a grid. */
export function cloudTpus({ topology }: Pick<TrainConfig, 'topology'>): number {
  return topology.columns * topology.rows;
}

/** Returns the number of replicas of a grid, which is the number of its cores. */
export function replicas(config: Pick<TrainConfig, 'topology'>): number {
  return cloudTpus(config) * replicasPerCloudTpu;
}

/**
 * Largest number of steps of a run. It is below 2^24, so that f32 represents every step number
 * exactly.
 */
export const stepsMax = 10_000_000;

/**
 * Largest number of passes over the training set. Each pass has a number, from which the order of
 * its examples is derived. The number must fit a u32.
 */
const passesMax = 1_000_000_000;

/**
 * Returns the number of steps of the whole run over a training set of `size` examples. A length in
 * epochs is rounded up to whole steps.
 *
 * @throws PodError `bad-flag` if the run would have more than {@link stepsMax} steps or too many
 *   passes over the training set.
 */
export function totalSteps(
  { length, globalBatch }: Pick<TrainConfig, 'length' | 'globalBatch'>,
  size: number,
): number {
  const steps =
    length.unit === 'steps' ? length.steps : Math.ceil((length.epochs * size) / globalBatch);
  const batches = `with a global batch of ${globalBatch} and ${size} training images`;
  if (length.unit === 'epochs' && steps > stepsMax) {
    const most = roundDown((stepsMax * globalBatch) / size);
    throw new PodError(
      'bad-flag',
      `${length.epochs} epochs ${batches}: expected at most ${stepsMax} steps, found ${steps}; use at most ${most} epochs`,
    );
  }
  const passes = Math.ceil((steps * globalBatch) / size);
  if (passes > passesMax) {
    throw new PodError(
      'bad-flag',
      `${steps} steps ${batches}: expected at most ${passesMax} passes over the training set, found ${passes}; use fewer steps, a smaller batch or a larger set`,
    );
  }
  return steps;
}

/** Rounds down to a whole number, or to six decimals if `value` is below 1. */
function roundDown(value: number): number {
  return value >= 1 ? Math.floor(value) : Math.floor(value * 1e6) / 1e6;
}
