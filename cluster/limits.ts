import type { MasterOptions } from '../src/pod/master.ts';
import type { PodOptions } from '../src/pod/pod.ts';

/**
 * Limits that an operator meets. docs/REFERENCE.md lists them; `scripts/limits.ts` writes that table
 * from this file. Times are in ms.
 */
export const limits = {
  /**
   * Longest time, by MXU implementation, without progress in a step until a Cloud TPU is suspected.
   * The systolic MXU needs much longer for one instruction.
   */
  silenceMs: { fast: 1200, systolic: 60_000 },
  /** Factor on the longest silence that ended well; the product is the limit if it is larger. */
  silenceFactor: 4,
  /** Most losses of one Cloud TPU in a step, and in a minute, before the run fails. */
  lossesPerStepMax: 5,
  lossesPerMinuteMax: 30,
  /** Longest time that the present step may take after a signal before it is abandoned. */
  lastStepMs: 8000,
  /** Longest time that a worker looks for a master or for the token, and how often it logs this. */
  searchMs: 180_000,
  searchLogMs: 5000,
  /** Lifetime of a program after which its next crash is the first of a new row. */
  longLifeMs: 10_000,
  /** Most jobs of a serving master that have not ended. */
  queueMax: 1000,
  /** Largest difference between the time of a request and the master's, and life of a challenge. */
  clockSkewMs: 60_000,
  challengeMs: 30_000,
  /** Refused connections that are logged one by one in each period. */
  refusalsLogged: 20,
  refusalPeriodMs: 10_000,
} as const;

/** The options of a master that do not depend on whether its workers are threads or processes. */
export function commonMasterOptions(
  { mxu, programs, recovery }: PodOptions,
  {
    graceMsLimit,
    samplePeriodMs,
  }: { readonly graceMsLimit: number; readonly samplePeriodMs: number },
): Omit<MasterOptions, 'names' | 'startMsLimit' | 'quietMsLimit'> {
  const { silenceMs, silenceFactor, lossesPerStepMax, lossesPerMinuteMax } = limits;
  return {
    copiesParameters: programs.map(({ parametersFrom }) => parametersFrom !== undefined),
    silenceMsLimit: silenceMs[mxu],
    silenceFactor,
    sampleMsLimit: 2.5 * samplePeriodMs,
    recovery: { policy: recovery ?? 'none', graceMsLimit, lossesPerStepMax, lossesPerMinuteMax },
  };
}
