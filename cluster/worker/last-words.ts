import { isSystemError } from '../../src/files/system-error.ts';
import { type ErrorCode, errorCodes, PodError } from '../../src/numerics/error.ts';
import { oneLine } from '../../src/numerics/quote.ts';

/** What a process says of the error that ends it, and the exit code that follows. */
export interface LastWords {
  /** Undefined of our own mistakes. */
  readonly code: ErrorCode | undefined;
  readonly exitCode: number;
  /** One line of bounded length. */
  readonly message: string;
  /** Present for mistakes of this program only. */
  readonly stack: string | undefined;
}

/** An error of ours is said as it is; one of the system, or of the engine's memory, by its code. */
export function describeError(error: unknown): LastWords {
  const message = oneLine(error instanceof Error ? error.message : String(error));
  const code = codeOf(error);
  if (code !== undefined) {
    return { code, exitCode: errorCodes[code], message, stack: undefined };
  }
  const stack = error instanceof Error ? error.stack : undefined;
  return { code: undefined, exitCode: 1, message, stack };
}

function codeOf(error: unknown): ErrorCode | undefined {
  if (error instanceof PodError) return error.code;
  if (isSystemError(error) || isDenied(error)) return 'io';
  return isOfMemory(error) ? 'out-of-memory' : undefined;
}

/** Node was started with --permission, and without the one that is needed. */
function isDenied(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ERR_ACCESS_DENIED';
}

/** What the engine throws when it does not get a buffer of the size that is needed. */
function isOfMemory(error: unknown): boolean {
  return error instanceof RangeError && /allocation failed|could not allocate/i.test(error.message);
}
