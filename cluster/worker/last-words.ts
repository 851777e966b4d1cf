import { isSystemError } from '../../src/files/system-error.ts';
import { type ErrorCode, errorCodes, PodError } from '../../src/numerics/error.ts';

/** What a process says of the error that ends it, and the exit code that follows. */
export interface LastWords {
  readonly code: ErrorCode | undefined;
  readonly exitCode: number;
  readonly message: string;
  /** Of our own mistakes only. */
  readonly stack: string | undefined;
}

/** An error of ours is said as it is, one of the system as `io`; anything else is a mistake. */
export function describeError(error: unknown): LastWords {
  if (error instanceof PodError) {
    const { code, exitCode, message } = error;
    return { code, exitCode, message, stack: undefined };
  }
  const message = error instanceof Error ? error.message : String(error);
  if (isSystemError(error)) {
    return { code: 'io', exitCode: errorCodes.io, message, stack: undefined };
  }
  const stack = error instanceof Error ? error.stack : undefined;
  return { code: undefined, exitCode: 1, message, stack };
}
