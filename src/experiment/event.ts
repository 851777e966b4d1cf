import type { Phase } from '../isa/executable.ts';
import type { Note } from '../pod/master/action.ts';
import type { SaveEvent } from './checkpoint/background.ts';
import type { Refusal } from './checkpoint/checkpoint.ts';
import type { TrainConfig } from './config.ts';

export type { Note };

/**
 * Wall time of each part of a step, in ms. The times add up to the wall time of the step. `commit`
 * is the time in which the Cloud TPU runs no instruction: messages to and from the master, the
 * wait until the last Cloud TPU has reported, and the commit itself.
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
  /** Mean over all Cloud TPUs. */
  readonly phaseMs: PhaseMs;
  /** The Cloud TPU that took longest; absent in steps that older versions recorded. */
  readonly slowest?: Slowest;
  /** Effect of the slowest Cloud TPU; absent in steps that older versions recorded. */
  readonly timing?: StepTiming;
}

/**
 * The event of a committed step. It has also the times of each Cloud TPU. The commit log and the
 * history of the run leave these times out, because they take kilobytes a step in a large slice.
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
   * Waits for frames of other Cloud TPUs, in ms, rounded to 1 µs. `tpuLinkWaitMs[t][i]` is the wait
   * of Cloud TPU t on its entering link i (`StepReport.linkWaitMs`). Absent in steps that older
   * versions recorded.
   */
  readonly tpuLinkWaitMs?: readonly (readonly number[])[];
}

/** For each phase of a step: the Cloud TPU that took longest in it, and its wall time in ms. */
export type LongestPhases = Readonly<Record<Phase, { readonly tpu: number; readonly ms: number }>>;

/**
 * The Cloud TPU whose own work took longest in a step. Own work is all phases of the step except
 * the all-reduce, because a Cloud TPU in the all-reduce may only be waiting for the slowest one.
 * The time for which a Cloud TPU held up the others in the all-reduce is own work too.
 */
export interface Slowest {
  readonly tpu: number;
  /** Wall time, in ms, of the own work of Cloud TPU `tpu`. */
  readonly ownMs: number;
  /** Median, in ms, of the own work of each other Cloud TPU; 0 if there is no other Cloud TPU. */
  readonly othersMs: number;
}

/** A link, with the time that the Cloud TPU at its end waited for frames of it in a step. */
export interface LinkWait {
  /** Name of the link, such as `chip(3,1)+x`. */
  readonly link: string;
  /** Mean over the two lanes that use the link, in ms. */
  readonly waitMs: number;
}

/**
 * Effect of the slowest Cloud TPU of a step on the others. The *wait* of a Cloud TPU is its time in
 * the all-reduce minus the shortest time of any Cloud TPU in the all-reduce. Time for which a Cloud
 * TPU held up the others does not count in either.
 */
export interface StepTiming {
  /** Phase that took most of the own work of the slowest Cloud TPU. */
  readonly slowestPhase: Phase;
  /**
   * Number of the first step since which the same Cloud TPU has been the slowest in every step. It
   * is the number of this step if another Cloud TPU was the slowest in the step before.
   */
  readonly slowestSince: number;
  /** Mean wait, in ms, of the Cloud TPUs other than the slowest; 0 without others. */
  readonly waitMs: number;
  /**
   * Part of `waitMs` that the slowest Cloud TPU caused. Of the wait of one Cloud TPU it caused at
   * most the time by which its own work took longer than the own work of that Cloud TPU.
   */
  readonly causedMs: number;
  /**
   * Of the links that leave the slowest Cloud TPU, the one on which the other end waited longest.
   * Absent if nobody waited for the slowest Cloud TPU, or if the waits are unknown.
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
  /** Phase that took most of its own work in `step`; absent if the times of phases are unknown. */
  readonly slowestPhase?: Phase;
  /** Wait that it caused in `step`, in ms (see {@link StepTiming}); absent if unknown. */
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
  /** Absent if the slice has one Cloud TPU, or if no trained step has the times. */
  readonly slowest?: SlowestOfRun;
  readonly hbmBytesPerCore: number;
  /** Number of times that the run recovered from the loss of a Cloud TPU or of its master. */
  readonly recoveries: number;
  /** Present only if the run has checkpoints. */
  readonly checkpoints?: CheckpointReport;
}

/**
 * The Cloud TPU that was the slowest in more steps of a run than any other. All times are means, in
 * ms, over the steps in which it was the slowest.
 */
export interface SlowestOfRun {
  readonly tpu: number;
  /** Number of steps in which it was the slowest. */
  readonly steps: number;
  /** Number of steps in which the slowest Cloud TPU is known. */
  readonly ofSteps: number;
  /** Its own work in a step (see {@link Slowest}). */
  readonly ownMs: number;
  /** Median of the own work of the others. */
  readonly othersMs: number;
  /** Wait of each other Cloud TPU that it caused (see {@link StepTiming}). */
  readonly causedMs: number;
  /**
   * The link that was `slowestLink` in most of these steps, with its mean wait in them. Absent if
   * no step has a slowest link.
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
