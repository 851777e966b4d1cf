/** Settings of a master, fixed at its start. */
export interface MasterOptions {
  /** For each Cloud TPU, by its number: its name in messages, such as `Cloud TPU 3 (x 1, y 1)`. */
  readonly names: readonly string[];
  /**
   * For each program, by its index: true if the program copies its parameters from another program,
   * and so has no state of its own.
   */
  readonly copiesParameters: readonly boolean[];
  /**
   * Longest time, in ms, for all workers to join at the start. Also the longest time for each of
   * these: leaving a step, rolling back, loading and restoring.
   */
  readonly startMsLimit: number;
  /**
   * Longest time, in ms, that the master waits for a further worker at the start of a run, counted
   * from the last worker that joined. After that time the workers that have joined also host the
   * missing Cloud TPUs. Ignored with the policy `none`.
   */
  readonly quietMsLimit: number;
  /**
   * Longest time, in ms, for which the progress counter of a Cloud TPU may stay the same during a
   * step. After that time the Cloud TPU counts as lost.
   *
   * Two limits are eight times as long: the limit until a first step has ended, and the limit
   * between later steps, when the failure detector watches heartbeats instead.
   */
  readonly silenceMsLimit: number;
  /**
   * Factor on `longestSilenceMs`, the longest recent pause after which a Cloud TPU went on. If the
   * product is larger than `silenceMsLimit`, the product is the limit instead.
   */
  readonly silenceFactor: number;
  /**
   * Largest time, in ms, that one sample of the counters adds to a silence. If more time has passed
   * since the sample before, the rest does not count, because the master itself was held up, not
   * the Cloud TPUs.
   */
  readonly sampleMsLimit: number;
  readonly recovery: RecoveryOptions;
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
   * Longest time, in ms, for a replacement to join; more than 0. After that time the master asks
   * the worker of another Cloud TPU to host the lost Cloud TPU too. The asked worker has
   * `startMsLimit` to join for the lost Cloud TPU.
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
