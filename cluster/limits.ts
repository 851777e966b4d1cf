/**
 * Longest time, in ms, that a core waits for a neighbour or for its infeed. There is one limit for
 * each implementation of the MXU: with the systolic MXU a neighbour needs much longer for one
 * instruction, so the core waits longer for it.
 */
export const waitMsLimits = { fast: 60_000, systolic: 1_800_000 } as const;

/**
 * Limits of a pod that its operator may meet. The script `scripts/limits.ts` writes them into a
 * table of docs/REFERENCE.md. Times are in ms.
 */
export const limits = {
  /**
   * How long a Cloud TPU may make no progress in a step before it is suspected, for each
   * implementation of the MXU. The systolic MXU needs much longer for one instruction.
   */
  silenceMs: { fast: 1200, systolic: 60_000 },
  /**
   * How many times longer than usual a Cloud TPU may pause before it is suspected. A pause is a
   * time without progress in a step. The usual pause is the longest recent pause after which a
   * Cloud TPU went on. So on a slow machine, where all pauses are long, longer pauses are allowed.
   * A pause up to `silenceMs` is always allowed.
   */
  silenceFactor: 4,
  /**
   * How often one Cloud TPU may be lost before the run fails: in one step at most
   * `lossesPerStepMax` times, and in one minute at most `lossesPerMinuteMax` times.
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
   * A program is restarted after a crash, but only a limited number of times in succession. If it
   * has run for longer than this time, in ms, the count of successive restarts begins anew.
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
   * In each period of `refusalPeriodMs` ms, only the first `refusalsLogged` refused connections are
   * logged one by one. Of the further refused connections, only the number is logged.
   */
  refusalsLogged: 20,
  refusalPeriodMs: 10_000,
} as const;
