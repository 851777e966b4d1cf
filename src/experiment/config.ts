import type { NetworkName } from '../model/networks.ts';
import type { RecoveryPolicy } from '../pod/master.ts';

/** Everything that decides the bits of a run, and nothing that does not. */
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
}

export const scheduleNames = ['constant', 'linear-scaling', 'piecewise', 'cosine'] as const;
export type ScheduleName = (typeof scheduleNames)[number];

/** Cores of a Cloud TPU; each is a replica. */
export const replicasPerCloudTpu = 8;

export function cloudTpus({ topology }: Pick<TrainConfig, 'topology'>): number {
  return topology.columns * topology.rows;
}

export function replicas(config: Pick<TrainConfig, 'topology'>): number {
  return cloudTpus(config) * replicasPerCloudTpu;
}

/** Steps of the whole run over a training set of `size` samples; the last epoch is completed. */
export function totalSteps({ length, globalBatch }: TrainConfig, size: number): number {
  return length.unit === 'steps' ? length.steps : Math.ceil((length.epochs * size) / globalBatch);
}
