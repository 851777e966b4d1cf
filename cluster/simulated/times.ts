/**
 * Durations in a simulated pod, in microseconds of virtual time. A {@link Range} gives the bounds
 * between which the duration is drawn at random, each time anew. `message`: time until a message
 * arrives. `frame`: time until a frame arrives.
 */
export interface SimulatedTimes {
  readonly message: Range;
  readonly frame: Range;
  /**
   * Time that a worker needs to start. `start`: a worker at the beginning of a run. `replace`: a
   * worker that replaces a lost one.
   */
  readonly start: Range;
  readonly replace: Range;
  /** Time of one operation on the disk, such as a write, when a checkpoint is saved or read. */
  readonly disk: Range;
  /** Time from the end of a master to the start of the next. */
  readonly restart: Range;
  /** `load`: time to load the programs. `copy`: time to copy parameters from another worker. */
  readonly load: number;
  readonly copy: number;
  /**
   * Durations of four of the five phases of a step. The fifth phase, the all-reduce, has no
   * duration of its own: it lasts until its last frame has arrived.
   */
  readonly infeed: number;
  readonly compute: number;
  readonly update: number;
  readonly outfeed: number;
}

/** A range of times, in microseconds: from `least` (included) to `least + spread` (excluded). */
export interface Range {
  readonly least: number;
  readonly spread: number;
}

/** Returns a random time from the range. `random` returns random numbers in [0, 1). */
export function drawn({ least, spread }: Range, random: () => number): number {
  return least + Math.floor(spread * random());
}

/** Times similar to those of a pod of threads, except that workers start faster. */
export const defaultTimes: SimulatedTimes = {
  message: { least: 50, spread: 200 },
  frame: { least: 10, spread: 20 },
  start: { least: 30_000, spread: 20_000 },
  replace: { least: 60_000, spread: 60_000 },
  disk: { least: 50, spread: 100 },
  restart: { least: 200_000, spread: 400_000 },
  ...{ load: 5000, copy: 1000 },
  ...{ infeed: 200, compute: 3000, update: 500, outfeed: 100 },
};
