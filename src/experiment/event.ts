import type { Phase } from '../isa/executable.ts';
import type { Note } from '../pod/master/action.ts';
import type { SaveEvent } from './checkpoint/background.ts';
import type { Refusal } from './checkpoint/checkpoint.ts';
import type { TrainConfig } from './config.ts';

export type { Note };

/** Wall time of each part of a step, in ms. */
export type PhaseMs = Readonly<Record<Phase | 'commit', number>>;

/** An event of a run. Progress, logs and reports are made from the events in their order. */
export type TrainEvent =
  | Started
  | WarmStarted
  | Resumed
  | { readonly kind: 'ready'; readonly elapsedMs: number }
  | StepCommitted
  | Straggler
  | SaveEvent
  /**
   * A rollback refused a checkpoint because it is damaged or of another run, and looks for an older
   * checkpoint.
   */
  | ({ readonly kind: 'checkpoint-refused' } & Refusal)
  | { readonly kind: 'evaluating'; readonly step: number; readonly samples: number }
  | Evaluated
  | Stopped
  /** A loss, a recovery or another incident that the slice reported. */
  | { readonly kind: 'note'; readonly note: Note }
  | { readonly kind: 'finished'; readonly report: Report };

/** The first event of a run: the data set has been read and the programs have been compiled. */
export interface Started {
  readonly kind: 'started';
  readonly config: TrainConfig;
  readonly tpus: number;
  readonly steps: number;
  readonly trainSamples: number;
  readonly parameters: number;
  readonly hbmBytesPerCore: number;
  readonly hbmLimitBytes: number;
}

/** A new run begins with the weights of a checkpoint and a fresh optimizer state. */
export interface WarmStarted {
  readonly kind: 'warm-started';
  /** Path of the checkpoint. */
  readonly checkpoint: string;
  readonly weightsDigest: string;
  /** Checkpoints of the same folder that are newer but were refused, with the reasons. */
  readonly refused: readonly Refusal[];
}

/** The starting point of a run with `--resume`, or of a run that another master has begun. */
export interface Resumed {
  readonly kind: 'resumed';
  /**
   * Name of the checkpoint from which the run resumes. It is null if there is no such checkpoint:
   * the run goes on after the last step that an earlier master committed, or begins at step 0.
   */
  readonly checkpoint: string | null;
  /** Number of steps that were committed before this event. */
  readonly step: number;
  /** Checkpoints that are newer than the starting point but were refused, with the reasons. */
  readonly refused: readonly Refusal[];
}

/** A step was committed: all Cloud TPUs agreed on the digest of the weights after the step. */
export interface StepCommitted {
  readonly kind: 'step';
  /** Number of the step, from 1. It is also the number of steps committed so far. */
  readonly step: number;
  readonly steps: number;
  /**
   * Number of passes over the training set so far, as a fraction: 1.5 in the middle of the second
   * pass.
   */
  readonly epoch: number;
  /** Mean loss over the global batch, before the update. */
  readonly loss: number;
  /** Fraction of the global batch that was classified correctly, before the update. */
  readonly accuracy: number;
  readonly learningRate: number;
  readonly digest: string;
  readonly wallMs: number;
  readonly imagesPerSecond: number;
  readonly phaseMs: PhaseMs;
  /** The Cloud TPU that took longest; absent in steps that older versions recorded. */
  readonly slowest?: Slowest;
}

/**
 * The Cloud TPU whose own work took longest in a step. Own work is all phases of the step except
 * the all-reduce, because a Cloud TPU in the all-reduce may only be waiting for the slowest one.
 */
export interface Slowest {
  readonly tpu: number;
  /** Wall time, in ms, of the own work of Cloud TPU `tpu`. */
  readonly ownMs: number;
  /** Median, in ms, of the own work of each other Cloud TPU; 0 if there is no other Cloud TPU. */
  readonly othersMs: number;
}

/** A Cloud TPU has been much slower than the others for several steps in a row. */
export interface Straggler extends Slowest {
  readonly kind: 'straggler';
  readonly step: number;
  /**
   * Number of consecutive steps in which this Cloud TPU was much slower than the others. The last
   * of these steps is `step`.
   */
  readonly inARow: number;
}

/** The run ended early, on request. */
export interface Stopped {
  readonly kind: 'stopped';
  readonly step: number;
  readonly steps: number;
  /**
   * True if `--resume` can continue the run after `step`, so that no committed step is lost. False
   * if the run has no checkpoints or no step was committed.
   */
  readonly saved: boolean;
}

/** The outcome of the evaluation on the held-out examples. */
export interface Evaluated {
  readonly kind: 'evaluated';
  readonly step: number;
  readonly samples: number;
  readonly correct: number;
  readonly accuracy: number;
  readonly loss: number;
}

/** Quantiles of wall times, in ms. */
export interface Quantiles {
  readonly p50: number;
  readonly p90: number;
  readonly max: number;
}

/** Content of the file that `--report` writes. The names of its fields are stable. */
export interface Report {
  readonly tpus: number;
  readonly topology: string;
  readonly model: string;
  readonly data: string;
  readonly globalBatch: number;
  readonly steps: number;
  /**
   * Number of steps trained since the run was resumed from a checkpoint; without a resume, since
   * the run began. It is 0 if the run was resumed from a checkpoint of its last step. The times and
   * rates below are those of these steps.
   */
  readonly stepsTrained: number;
  readonly seed: number;
  readonly precision: 'bf16' | 'f32';
  readonly mxu: 'fast' | 'systolic';
  readonly finalLoss: number;
  readonly evalAccuracy: number;
  readonly evalSamples: number;
  readonly weightsDigest: string;
  readonly imagesPerSecond: number;
  readonly stepMs: Quantiles;
  readonly phaseMs: Readonly<Record<keyof PhaseMs, Quantiles>>;
  /**
   * Payload bytes that each directed link of the torus carried since the run was resumed or began.
   * The name of a link is `chip(x,y)±axis`.
   */
  readonly linkBytes: Readonly<Record<string, number>>;
  readonly hbmBytesPerCore: number;
  /** Number of times that the run recovered from the loss of a Cloud TPU or of its master. */
  readonly recoveries: number;
  /** Present only if the run has checkpoints. */
  readonly checkpoints?: CheckpointReport;
}

/**
 * Outcome of a run's checkpoints: the checkpoint from which the run resumed, the refused
 * checkpoints, and the numbers of successful and failed saves.
 */
export interface CheckpointReport {
  /** Name of the checkpoint from which the run resumed; null if it resumed from no checkpoint. */
  readonly resumedFrom: string | null;
  readonly refused: readonly Refusal[];
  readonly saved: number;
  readonly failed: number;
}
