import { wordsOfProgram } from '../src/experiment/program-index.ts';
import type { MasterOptions } from '../src/pod/master/options.ts';
import type { PodOptions } from '../src/pod/pod.ts';
import { namesOf } from './driver.ts';
import { limits } from './limits.ts';

/** Times of a crew, in ms. Threads start and are replaced faster than processes on many hosts. */
export interface CrewTimes {
  /** See `MasterOptions.startMsLimit`. */
  readonly startMsLimit: number;
  /** See `MasterOptions.quietMsLimit`. */
  readonly quietMsLimit: number;
  /** See `RecoveryOptions.graceMsLimit`. */
  readonly graceMsLimit: number;
  /**
   * Time between two samples that the failure detector takes of the progress counters and the
   * heartbeats of all Cloud TPUs.
   */
  readonly samplePeriodMs: number;
}

/**
 * Times of a crew of threads and of a simulated crew. All threads of a pod start together. So the
 * limit on the time between two workers that join, `quietMsLimit`, has no use here. It equals
 * `startMsLimit`, the limit on the start of all workers, and therefore has no effect.
 */
export const threadTimes: CrewTimes = {
  startMsLimit: 60_000,
  quietMsLimit: 60_000,
  graceMsLimit: 10_000,
  samplePeriodMs: 100,
};

/** Returns the options of the master of a pod, for a crew of threads or of processes. */
export function masterOptions(
  { topology, mxu, programs, recovery }: PodOptions,
  { startMsLimit, quietMsLimit, graceMsLimit, samplePeriodMs }: CrewTimes,
): MasterOptions {
  const { silenceMs, silenceFactor, lossesPerStepMax, lossesPerMinuteMax } = limits;
  return {
    names: namesOf(topology),
    copiesParameters: programs.map(({ parametersFrom }) => parametersFrom !== undefined),
    programs: programs.map((_, program) => wordsOfProgram(program)),
    startMsLimit,
    quietMsLimit,
    silenceMsLimit: silenceMs[mxu],
    silenceFactor,
    sampleMsLimit: 2.5 * samplePeriodMs,
    recovery: { policy: recovery ?? 'none', graceMsLimit, lossesPerStepMax, lossesPerMinuteMax },
  };
}
