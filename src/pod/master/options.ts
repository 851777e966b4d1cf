/** Settings of a master, fixed at its start. */
export interface MasterOptions {
  /** For each Cloud TPU, by its number: its name in messages, such as `Cloud TPU 3 (x 1, y 1)`. */
  readonly names: readonly string[];
  /**
   * For each program, by its index: true if the program copies its parameters from another program,
   * and so has no state of its own.
   */
  readonly copiesParameters: readonly boolean[];
  /** For each program, by its index: its words in messages. */
  readonly programs: readonly ProgramWords[];
  /**
   * Longest time, in ms, that each of these may take: the joining of all workers at the start,
   * leaving a step, a rollback, the loading of programs, and the restoring of parameters.
   */
  readonly startMsLimit: number;
  /**
   * Longest time, in ms, from the join of one worker to the join of the next, at the start of a
   * run. After that time the workers that have joined also host the missing Cloud TPUs. Ignored
   * with the policy `none`.
   */
  readonly quietMsLimit: number;
  /**
   * Longest time, in ms, for which the progress counter of a Cloud TPU may stay the same during a
   * step. After that time the Cloud TPU counts as lost.
   *
   * The limit is eight times as long until the first step has ended. Between later steps the master
   * watches heartbeats instead, also with a limit eight times as long.
   */
  readonly silenceMsLimit: number;
  /**
   * The limit of silence is at least `longestSilenceMs` times this factor. `longestSilenceMs` is
   * the longest recent pause after which a Cloud TPU went on.
   */
  readonly silenceFactor: number;
  /**
   * Largest time, in ms, by which one sample of the counters can lengthen a silence. If more time
   * has passed since the previous sample, the excess does not count: the master was held up, not
   * the Cloud TPUs.
   */
  readonly sampleMsLimit: number;
  readonly recovery: RecoveryOptions;
}

/** Words for a program in messages, such as `step` and `the training`. */
export interface ProgramWords {
  /** What one step of the program is called. */
  readonly unit: string;
  readonly name: string;
}

/**
 * Policies after the loss of a Cloud TPU. `none`: the run ends. `replace`: a replacement copies the
 * parameters from another Cloud TPU, and the interrupted step runs again. `slice-restart`: the
 * whole slice goes back to the last checkpoint, as on the hardware.
 */
export const recoveryPolicies = ['none', 'replace', 'slice-restart'] as const;

/** One of {@link recoveryPolicies}. */
export type RecoveryPolicy = (typeof recoveryPolicies)[number];

/** Policy and limits of the recovery from losses. */
export interface RecoveryOptions {
  readonly policy: RecoveryPolicy;
  /**
   * Longest time, in ms, that the master waits for a replacement to join; greater than 0. After
   * that time the master asks the worker of another Cloud TPU to host the lost Cloud TPU too. That
   * worker then has `startMsLimit` to join for the lost Cloud TPU.
   */
  readonly graceMsLimit: number;
  /**
   * Maximum number of losses of one Cloud TPU between two commits, usually 5. The run fails at the
   * next loss.
   */
  readonly lossesPerStepMax: number;
  /** Maximum number of losses of one Cloud TPU within a minute. The run fails at the next loss. */
  readonly lossesPerMinuteMax: number;
}
