import { isSystemError } from '../../src/files/system-error.ts';
import { type ErrorCode, errorCodes, messageOf, PodError } from '../../src/numerics/error.ts';
import { oneLine } from '../../src/numerics/quote.ts';

/** Description of the error that ends a process, and the exit code of the process. */
export interface ErrorReport {
  /** Code of the error; undefined for a bug of this program. */
  readonly code: ErrorCode | undefined;
  readonly exitCode: number;
  /** Message of the error: one line of bounded length. */
  readonly message: string;
  /** Stack of the error, only for a bug of this program. */
  readonly stack: string | undefined;
}

/**
 * Describes an error that ends the process. A PodError keeps its code, a system error gets `io`,
 * and a failed allocation gets `out-of-memory`. Any other error is a bug of this program, without a
 * code and with exit code 1.
 */
export function describeError(error: unknown): ErrorReport {
  const message = oneLine(messageOf(error));
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

/** True if Node, started with --permission, has refused an access. */
function isDenied(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ERR_ACCESS_DENIED';
}

/** True if V8 could not allocate a buffer. */
function isOfMemory(error: unknown): boolean {
  return error instanceof RangeError && /allocation failed|could not allocate/i.test(error.message);
}
