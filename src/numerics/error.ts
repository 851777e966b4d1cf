import { oneLine } from './quote.ts';

/**
 * Stable codes of all errors that are not bugs of this program, each with the exit code of the
 * `pod` command: 2 if the user's input or setup is wrong, 3 if a Cloud TPU failed, 4 if the program
 * does not fit or does not compile, 5 if a file could not be read or written.
 */
export const errorCodes = {
  'bad-flag': 2,
  'bad-config': 2,
  'bad-data': 2,
  'bad-program': 2,
  'bad-plan': 2,
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

/** Kind of an error: a key of {@link errorCodes}. */
export type ErrorCode = keyof typeof errorCodes;

/**
 * An error with one of the {@link errorCodes}. Its message is one line that says what failed and
 * where, what was expected, and what was found.
 */
export class PodError extends Error {
  override readonly name = 'PodError';
  readonly code: ErrorCode;

  /** `message` may contain any text: {@link oneLine} cuts it to one line of bounded length. */
  constructor(code: ErrorCode, message: string, cause?: unknown) {
    super(oneLine(message), cause === undefined ? undefined : { cause });
    this.code = code;
  }

  get exitCode(): number {
    return errorCodes[this.code];
  }
}

/** Returns the message of an error. For a value that is no error, returns the value as text. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/**
 * Returns what `work` returns. If it throws a PodError, throws the same error with `origin`, such as
 * the name of a file, before the message.
 */
export function withOrigin<T>(origin: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof PodError)) throw error;
    throw new PodError(error.code, `${origin}: ${error.message}`, error);
  }
}

/**
 * Returns the field `code` of an error, or null if the error has none. A PodError that comes from
 * another thread has lost its class but has kept its fields. `instanceof PodError` would therefore
 * not recognize it.
 */
export function codeOf(error: unknown): string | null {
  const code = error instanceof Error && 'code' in error ? error.code : null;
  return typeof code === 'string' ? code : null;
}
