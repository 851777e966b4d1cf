import type { NetworkName } from '../model/networks.ts';
import { PodError } from '../numerics/error.ts';
import type { RecoveryPolicy } from '../pod/master.ts';
import { coresPerCloudTpu } from '../spec/tpu-v2.ts';

/**
 * The settings of a run, checked. Not all of them decide its bits: src/experiment/same-run.ts says
 * what makes two runs the same run.
 */
export interface TrainConfig {
  /** Grid of Cloud TPUs, columns along X and rows along Y. */
  readonly topology: { readonly columns: number; readonly rows: number };
  readonly model: NetworkName;
  readonly data: string;
  /** Examples a step over all replicas; a multiple of the number of replicas. */
  readonly globalBatch: number;
  readonly length:
    | { readonly unit: 'steps'; readonly steps: number }
    | { readonly unit: 'epochs'; readonly epochs: number };
  readonly learningRate: number;
  readonly schedule: ScheduleName;
  /** Share of the run over which the learning rate rises linearly from 0. */
  readonly warmUp: number;
  readonly momentum: number;
  readonly seed: number;
  readonly precision: 'bf16' | 'f32';
  readonly mxu: 'fast' | 'systolic';
  /** What becomes of the run when a Cloud TPU is lost; the bits do not depend on it. */
  readonly recovery: RecoveryPolicy;
  /** Held-out images to evaluate on, in whole batches; all unless given. */
  readonly evaluate: number | undefined;
  /**
   * Path of the checkpoint, or of the folder of checkpoints, whose weights the run begins with; it
   * begins with weights drawn from `seed` unless given.
   */
  readonly startFrom?: string;
}

/** Schedules of the learning rate. */
export const scheduleNames = ['constant', 'linear-scaling', 'piecewise', 'cosine'] as const;
/** One of {@link scheduleNames}. */
export type ScheduleName = (typeof scheduleNames)[number];

/** Each core is a replica. */
export const replicasPerCloudTpu: number = coresPerCloudTpu;

/** Cloud TPUs of a grid. */
export function cloudTpus({ topology }: Pick<TrainConfig, 'topology'>): number {
  return topology.columns * topology.rows;
}

/** Replicas of a grid: its cores. */
export function replicas(config: Pick<TrainConfig, 'topology'>): number {
  return cloudTpus(config) * replicasPerCloudTpu;
}

/** The longest run, in steps; every step number is exact in f32 below 2^24. */
export const stepsMax = 10_000_000;

/** The most passes over the training set: the order of a pass is drawn from its number, a u32. */
const passesMax = 1_000_000_000;

/**
 * Steps of the whole run over a training set of `size` examples; the last epoch is completed.
 *
 * @throws PodError `bad-flag` when that is a longer run than there can be.
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

/** To whole numbers, and below 1 to six decimals. */
function roundDown(value: number): number {
  return value >= 1 ? Math.floor(value) : Math.floor(value * 1e6) / 1e6;
}
