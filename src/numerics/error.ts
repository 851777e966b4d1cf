import { oneLine } from './quote.ts';

/**
 * What can go wrong in the world, each with a stable code. The exit code of the `pod` command
 * follows from it: 2 what the user gave, 3 a Cloud TPU failed, 4 the program does not fit or does
 * not compile, 5 a file could not be read or written.
 */
export const errorCodes = {
  'bad-flag': 2,
  'bad-config': 2,
  'bad-data': 2,
  'bad-program': 2,
  'in-use': 2,
  'no-master': 2,
  unauthorized: 2,
  'no-such-job': 2,
  'job-ended': 2,
  'too-large': 2,
  'too-many': 2,
  'unsupported-engine': 2,
  'worker-threw': 3,
  'worker-exited': 3,
  'worker-silent': 3,
  'digest-mismatch': 3,
  'link-timeout': 3,
  'bad-frame': 3,
  diverged: 3,
  superseded: 3,
  'out-of-hbm': 4,
  'out-of-memory': 4,
  'out-of-threads': 4,
  'unsupported-program': 4,
  io: 5,
} as const;

/** A key of {@link errorCodes}: what kind of error it is. */
export type ErrorCode = keyof typeof errorCodes;

/** An error the user can do something about: one line saying what, where, expected, found. */
export class PodError extends Error {
  override readonly name = 'PodError';
  readonly code: ErrorCode;

  /** `message` may quote anything: it becomes one line of bounded length; see {@link oneLine}. */
  constructor(code: ErrorCode, message: string, cause?: unknown) {
    super(oneLine(message), cause === undefined ? undefined : { cause });
    this.code = code;
  }

  get exitCode(): number {
    return errorCodes[this.code];
  }
}
