/**
 * Times of a simulated pod, in microseconds of virtual time. Each message takes a time from the
 * range `message`, drawn from the seed of the pod; each frame takes a time from the range `frame`.
 */
export interface SimulatedTimes {
  readonly message: Range;
  readonly frame: Range;
  /** Time for a worker to start, at the beginning and as a replacement. */
  readonly start: Range;
  readonly replace: Range;
  /** Time to load the programs, and to copy parameters from another worker. */
  readonly load: number;
  readonly copy: number;
  /** Parts of a step. The hops of the all-reduce come in addition. */
  readonly infeed: number;
  readonly compute: number;
  readonly update: number;
  readonly outfeed: number;
}

/** Least time, and the time that chance can add. */
export interface Range {
  readonly least: number;
  readonly spread: number;
}

/** Returns a time of a range. */
export function drawn({ least, spread }: Range, random: () => number): number {
  return least + Math.floor(spread * random());
}

/** Times that are like those of threads, but for the start, which is faster. */
export const defaultTimes: SimulatedTimes = {
  message: { least: 50, spread: 200 },
  frame: { least: 10, spread: 20 },
  start: { least: 30_000, spread: 20_000 },
  replace: { least: 60_000, spread: 60_000 },
  ...{ load: 5000, copy: 1000 },
  ...{ infeed: 200, compute: 3000, update: 500, outfeed: 100 },
};
