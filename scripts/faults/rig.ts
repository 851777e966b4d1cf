import type { Line } from './story.ts';

/** A pod whose parts can be broken and put back. All returned times are in ms since 1970. */
export interface Rig {
  /** Ends the pod that this rig started before, if any, and starts a new pod. */
  up(): Promise<void>;
  /** Ends all processes or containers of the pod. */
  down(): Promise<void>;
  /**
   * Passes each line of the log of all successive masters to `hear`. Returns the exit code of the
   * last master.
   */
  follow(hear: (line: string) => void): Promise<number>;
  /** Returns the names of the workers that can be broken now, always in the same order. */
  victims(): Promise<readonly string[]>;
  /** Returns the worker (one of `victims`) that a `joined` line of the master's log is about. */
  joiner(line: Line): string | undefined;
  /**
   * One function for each way to break a worker. It breaks the worker `victim` and returns the time
   * at which the fault happened.
   */
  readonly breaks: Readonly<Record<Break, (victim: string) => Promise<number>>>;
  /**
   * Kills the master's process with SIGKILL and returns the time of the kill. The supervisor, or
   * the entry script of the container, then starts the next master.
   */
  killMaster(): Promise<number>;
  /**
   * True if the pod itself starts a replacement for a lost worker. False if `mend` must put the old
   * worker back.
   */
  readonly startsOthers: boolean;
  /**
   * Puts back a worker that was broken in the way `how`. Does nothing if the pod has replaced this
   * worker.
   */
  mend(victim: string, how: Break): Promise<void>;
  /** Shortest time, in ms, that a master runs before the next fault kills it. */
  readonly masterLifeMsMin: number;
  /** Returns the logs of all programs of the pod. Each line begins with the name of the program. */
  logs(): Promise<string>;
}

/**
 * A way to break a worker:
 *
 * - `kill` kills the worker's container or process;
 * - `crash` kills only the program in the container (in a pod of processes: the same as `kill`);
 * - `pause` stops the worker without ending it;
 * - `stop` asks the worker to end, with SIGTERM;
 * - `disconnect` takes the container off the network (in a pod of processes: always fails).
 */
export type Break = 'kill' | 'crash' | 'pause' | 'stop' | 'disconnect';
