import type { Phase } from '../isa/executable.ts';
import type { Note } from '../pod/master.ts';
import type { SaveEvent } from './checkpoint/background.ts';
import type { Refusal } from './checkpoint/checkpoint.ts';
import type { TrainConfig } from './config.ts';

export type { Note };

/** Milliseconds of wall time of each part of a step. */
export type PhaseMs = Readonly<Record<Phase | 'commit', number>>;

/** What happens in a run, in order: what progress, logs and reports are made of. */
export type TrainEvent =
  | Started
  | WarmStarted
  | Resumed
  | { readonly kind: 'ready'; readonly elapsedMs: number }
  | StepCommitted
  | SaveEvent
  /** It was to be gone back to, and is not good; an older one is used. */
  | ({ readonly kind: 'checkpoint-refused' } & Refusal)
  | { readonly kind: 'evaluating'; readonly step: number; readonly samples: number }
  | Evaluated
  | Stopped
  /** Something went wrong, or came right again. */
  | { readonly kind: 'note'; readonly note: Note }
  | { readonly kind: 'finished'; readonly report: Report };

/** The run begins: everything has been read and compiled. */
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
  /** Newer ones of the same folder that were not good, and why. */
  readonly refused: readonly Refusal[];
}

/** A run that may go on has looked where from. */
export interface Resumed {
  readonly kind: 'resumed';
  /**
   * Name of the checkpoint that it goes on from; null when it goes on after the last step that an
   * earlier master committed, or, at step 0, when there is neither and the run starts anew.
   */
  readonly checkpoint: string | null;
  /** Steps committed before. */
  readonly step: number;
  /** Newer ones that were not good, and why. */
  readonly refused: readonly Refusal[];
}

/** All Cloud TPUs agreed on the weights after this step. */
export interface StepCommitted {
  readonly kind: 'step';
  /** 1-based: how many steps are committed. */
  readonly step: number;
  readonly steps: number;
  /** Epochs of the training set used up. */
  readonly epoch: number;
  /** Mean over the global batch, before the update. */
  readonly loss: number;
  /** Share of the global batch that was right, before the update. */
  readonly accuracy: number;
  readonly learningRate: number;
  readonly digest: string;
  readonly wallMs: number;
  readonly imagesPerSecond: number;
  readonly phaseMs: PhaseMs;
}

/** The run was asked to end before its last step; nothing of a committed step is lost if saved. */
export interface Stopped {
  readonly kind: 'stopped';
  readonly step: number;
  readonly steps: number;
  /** Whether `--resume` can go on from here. */
  readonly saved: boolean;
}

/** The held-out examples have been run. */
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

/** What `--report` writes; names are stable. */
export interface Report {
  readonly tpus: number;
  readonly topology: string;
  readonly model: string;
  readonly data: string;
  readonly globalBatch: number;
  readonly steps: number;
  /**
   * Steps trained since the run was resumed from a checkpoint, or since its start; 0 of a run that was
   * resumed after its last step. Times and rates below are of these steps.
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
  /** Bytes carried over the run, by directed link `chip(x,y)±axis`. */
  readonly linkBytes: Readonly<Record<string, number>>;
  readonly hbmBytesPerCore: number;
  /** How often the run went on after a loss, of a Cloud TPU or of its master. */
  readonly recoveries: number;
  /** Present for a run with checkpoints. Bytes above count the steps since it was resumed. */
  readonly checkpoints?: CheckpointReport;
}

/** What a run did with checkpoints. */
export interface CheckpointReport {
  /** Name of the checkpoint that the run went on from. */
  readonly resumedFrom: string | null;
  readonly refused: readonly Refusal[];
  readonly saved: number;
  readonly failed: number;
}
