import type { Phase } from '../isa/executable.ts';
import type { Note } from '../pod/master/action.ts';
import type { SaveEvent } from './checkpoint/background.ts';
import type { Refusal } from './checkpoint/checkpoint.ts';
import type { TrainConfig } from './config.ts';

export type { Note };

/**
 * Wall time of each part of a step, in ms. The times add up to the wall time of the step.
 *
 * `commit` is the time in which the Cloud TPU runs no instruction. It includes the messages to and
 * from the master, the wait until the last Cloud TPU has reported, and the commit itself.
 */
export type PhaseMs = Readonly<Record<Phase | 'commit', number>>;

/** An event of a run. Progress, logs and reports are made from the events in their order. */
export type TrainEvent =
  | Started
  | WarmStarted
  | Resumed
  | { readonly kind: 'ready'; readonly elapsedMs: number }
  | StepTold
  | Straggler
  | SaveEvent
  /**
   * A checkpoint was refused during a rollback, because it is damaged or of another run. The
   * rollback then looks for an older checkpoint.
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

/** The run was started with `--resume`, or goes on after steps that an earlier master committed. */
export interface Resumed {
  readonly kind: 'resumed';
  /**
   * Name of the checkpoint from which the run resumes, or null if there is no such checkpoint. If
   * it is null, the run goes on after the last step that an earlier master committed, or begins at
   * step 0.
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
  /** Mean over all Cloud TPUs. */
  readonly phaseMs: PhaseMs;
  /** The Cloud TPU whose own work took longest; absent in steps that older versions recorded. */
  readonly slowest?: Slowest;
  /** Effect of the slowest Cloud TPU; absent in steps that older versions recorded. */
  readonly timing?: StepTiming;
}

/**
 * The event of a committed step. In addition to the fields of `StepCommitted`, it has the times of
 * each Cloud TPU. The commit log and the history of the run leave these times out, because in a
 * large slice they take kilobytes a step.
 */
export interface StepTold extends StepCommitted {
  /** The longest time of each phase; absent in steps that older versions recorded. */
  readonly longest?: LongestPhases;
  /**
   * Wall times of all Cloud TPUs, in ms, rounded to 1 µs. `tpuPhaseMs[t][p]` is the time of Cloud
   * TPU t in phase p of `phases` (src/isa). Absent in steps that older versions recorded.
   */
  readonly tpuPhaseMs?: readonly (readonly number[])[];
  /**
   * Times, in ms, that Cloud TPUs waited for frames (messages) of other Cloud TPUs, rounded to 1
   * µs. `tpuLinkWaitMs[t][i]` is the wait of Cloud TPU t on link i of the links that enter it, in
   * the order of `StepReport.linkWaitMs`. Absent in steps that older versions recorded.
   */
  readonly tpuLinkWaitMs?: readonly (readonly number[])[];
}

/**
 * For each phase of a step: the Cloud TPU that took longest in the phase, and its wall time in ms.
 */
export type LongestPhases = Readonly<Record<Phase, { readonly tpu: number; readonly ms: number }>>;

/**
 * The Cloud TPU whose own work took longest in a step. All phases except the all-reduce are own
 * work. In the all-reduce, a Cloud TPU may only be waiting for the slowest one. Therefore the
 * all-reduce counts as own work only for the time for which the Cloud TPU held up the others.
 */
export interface Slowest {
  readonly tpu: number;
  /** Wall time, in ms, of the own work of Cloud TPU `tpu`. */
  readonly ownMs: number;
  /** Median, in ms, of the own work of the other Cloud TPUs; 0 if there are none. */
  readonly othersMs: number;
}

/** A directed link, and the time in a step that the receiving Cloud TPU waited for frames on it. */
export interface LinkWait {
  /** Name of the link, such as `chip(3,1)+x`. */
  readonly link: string;
  /** Mean, in ms, over the two lanes (parts of the all-reduce) that use the link. */
  readonly waitMs: number;
}

/**
 * Effect of the slowest Cloud TPU of a step on the others.
 *
 * The *wait* of a Cloud TPU is computed from its time in the all-reduce. First, the time for which
 * the Cloud TPU held up the others is subtracted. Then the smallest result among all Cloud TPUs is
 * subtracted from each result.
 */
export interface StepTiming {
  /** Phase that took most of the own work of the slowest Cloud TPU. */
  readonly slowestPhase: Phase;
  /**
   * Number of the step since which this Cloud TPU has been the slowest in every step. If another
   * Cloud TPU was the slowest in the previous step, this is the number of the current step.
   */
  readonly slowestSince: number;
  /** Mean wait, in ms, of the Cloud TPUs other than the slowest; 0 if there are no others. */
  readonly waitMs: number;
  /**
   * Part of `waitMs`, in ms, that the slowest Cloud TPU caused. For each other Cloud TPU, the part
   * is the smaller of two times: the wait of that Cloud TPU, and the time by which its own work was
   * shorter than the own work of the slowest. `causedMs` is the mean over the others.
   */
  readonly causedMs: number;
  /**
   * Of the links on which the slowest Cloud TPU sends, the link whose receiver waited longest.
   * Absent if no receiver waited, or if the waits are unknown.
   */
  readonly slowestLink?: LinkWait;
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
  /** Phase that took most of the own work of this Cloud TPU in `step`; absent if unknown. */
  readonly slowestPhase?: Phase;
  /** Mean wait of the others, in ms, that this Cloud TPU caused in `step`; absent if unknown. */
  readonly causedMs?: number;
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
   * Number of steps trained since the run was resumed from a checkpoint, or since the run began if
   * it was not resumed. It is 0 if the run was resumed from a checkpoint of its last step. The
   * times and rates in this report are those of the trained steps.
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
  /**
   * The Cloud TPU that was the slowest most often. Absent if the slice has one Cloud TPU, or if no
   * trained step has the times.
   */
  readonly slowest?: SlowestOfRun;
  readonly hbmBytesPerCore: number;
  /** Number of times that the run recovered from the loss of a Cloud TPU or of its master. */
  readonly recoveries: number;
  /** Present only if the run has checkpoints. */
  readonly checkpoints?: CheckpointReport;
}

/**
 * The Cloud TPU that was the slowest in more steps of a run than any other. All times are means, in
 * ms, over the steps in which this Cloud TPU was the slowest.
 */
export interface SlowestOfRun {
  readonly tpu: number;
  /** Number of steps in which this Cloud TPU was the slowest. */
  readonly steps: number;
  /** Number of steps in which the slowest Cloud TPU is known. */
  readonly ofSteps: number;
  /** Own work of this Cloud TPU in a step (see {@link Slowest}). */
  readonly ownMs: number;
  /** Median of the own work of the other Cloud TPUs in a step. */
  readonly othersMs: number;
  /** Mean wait of the other Cloud TPUs that this Cloud TPU caused (see {@link StepTiming}). */
  readonly causedMs: number;
  /**
   * The link that was {@link StepTiming.slowestLink} in more of these steps than any other link.
   * Its `waitMs` is the mean over the steps in which it was. Absent if no step has a slowest link.
   */
  readonly slowestLink?: LinkWait;
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
