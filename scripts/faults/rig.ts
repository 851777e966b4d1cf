import type { Line } from './story.ts';

/** A pod whose parts can be broken and put back. Times are in ms since 1970. */
export interface Rig {
  /** Ends the old pod, if any, and starts a new one. */
  up(): Promise<void>;
  /** Ends all that still runs of the pod. */
  down(): Promise<void>;
  /** Passes each line of the masters' log to `hear`. Returns the exit code of the last master. */
  follow(hear: (line: string) => void): Promise<number>;
  /** Returns the names of the workers that can be broken now, always in the same order. */
  victims(): Promise<readonly string[]>;
  /** Returns the worker (one of `victims`) that a `joined` line of the master's log is about. */
  joiner(line: Line): string | undefined;
  /** Functions that break a worker, each in one way, and return the time at which it was broken. */
  readonly breaks: Readonly<Record<Break, (victim: string) => Promise<number>>>;
  /**
   * Kills the master's process with SIGKILL and returns the time. The supervisor or the container's
   * entry script starts the next master.
   */
  killMaster(): Promise<number>;
  /** True if the pod itself replaces a lost worker. If false, `mend` brings the old worker back. */
  readonly startsOthers: boolean;
  /** Puts back a worker that was broken in the way `how`. */
  mend(victim: string, how: Break): Promise<void>;
  /** Shortest time, in ms, that a master runs before the next fault kills it. */
  readonly masterLifeMsMin: number;
  /**
   * Returns the logs of all programs of the pod, each line with the name of its program in front.
   */
  logs(): Promise<string>;
}

/**
 * A way to break a worker. With containers `crash` kills the program alone, `kill` the container.
 */
export type Break = 'kill' | 'crash' | 'pause' | 'stop' | 'disconnect';
