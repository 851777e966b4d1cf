/**
 * Longest time, in ms, that a core waits for a neighbour or for its infeed. There is one limit for
 * each implementation of the MXU: with the systolic MXU a neighbour needs much longer for one
 * instruction, so the core waits longer for it.
 */
export const waitMsLimits = { fast: 60_000, systolic: 1_800_000 } as const;

/**
 * Limits of a pod that matter to its operator. docs/REFERENCE.md lists them in a table that
 * `scripts/limits.ts` writes from this file. Times are in ms.
 */
export const limits = {
  /**
   * How long a Cloud TPU may make no progress in a step before it is suspected, for each
   * implementation of the MXU. The systolic MXU needs much longer for one instruction.
   */
  silenceMs: { fast: 1200, systolic: 60_000 },
  /**
   * A pause is a time in which a Cloud TPU makes no progress in a step. A Cloud TPU is suspected
   * when its pause is longer than `silenceMs` and longer than `silenceFactor` times the longest
   * recent pause after which a Cloud TPU went on. So the Cloud TPUs of a slow machine do not count
   * as lost.
   */
  silenceFactor: 4,
  /**
   * Largest number of losses of one Cloud TPU that the run survives: in one step
   * (`lossesPerStepMax`) and in one minute (`lossesPerMinuteMax`). One more loss fails the run.
   */
  lossesPerStepMax: 5,
  lossesPerMinuteMax: 30,
  /**
   * Longest time that the running step may still take after a signal has asked the master to end.
   * After that time the master ends without a commit of the step.
   */
  lastStepMs: 8000,
  /**
   * `searchMs`: longest time that a worker looks for a master, or waits for the token file.
   * `searchLogMs`: how often the worker logs that it is still waiting.
   */
  searchMs: 180_000,
  searchLogMs: 5000,
  /**
   * Running time of a program, in ms, after which its next crash counts as the first crash of a new
   * series. The limit on successive restarts then applies anew.
   */
  longLifeMs: 10_000,
  /** Greatest number of jobs, queued and running, that a serving master accepts. */
  queueMax: 1000,
  /**
   * `clockSkewMs`: largest difference between the time in a signed request and the master's clock.
   * `challengeMs`: how long a challenge, a nonce made by the master, can be used.
   */
  clockSkewMs: 60_000,
  challengeMs: 30_000,
  /**
   * In each period of `refusalPeriodMs`, the first `refusalsLogged` refused connections are logged
   * one by one. Further refused connections are only counted.
   */
  refusalsLogged: 20,
  refusalPeriodMs: 10_000,
} as const;
