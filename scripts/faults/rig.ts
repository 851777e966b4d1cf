import type { Line } from './story.ts';

/** A pod that can be broken, and put together again. Times are ms of the epoch. */
export interface Rig {
  /** Starts a pod anew. */
  up(): Promise<void>;
  /** Ends what is left of it. */
  down(): Promise<void>;
  /** Tells of each line of its masters' log; gives the exit code when the last has ended for good. */
  follow(hear: (line: string) => void): Promise<number>;
  /** Whoever can be broken now, in an order that stays. */
  victims(): Promise<readonly string[]>;
  /** Which of them joined, as the master's log has it. */
  joiner(line: Line): string | undefined;
  readonly breaks: Readonly<Record<Break, (victim: string) => Promise<number>>>;
  /** SIGKILL to the master's process; gives the time. Whoever started it starts it again. */
  killMaster(): Promise<number>;
  /** Whether the pod itself starts a new worker for one that is lost. Else `mend` brings the old one back. */
  readonly startsOthers: boolean;
  /** Puts back what was broken. */
  mend(victim: string, how: Break): Promise<void>;
  /** How long a master that was started lives at least before it is killed again. */
  readonly masterLifeMsMin: number;
  /** Everything that everybody said, for whoever looks for what went wrong. */
  logs(): Promise<string>;
}

/** What can be done to a worker; each gives the time at which it was done. */
export type Break = 'kill' | 'crash' | 'pause' | 'stop' | 'disconnect';
