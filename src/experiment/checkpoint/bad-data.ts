import { PodError } from '../../numerics/error.ts';

/**
 * Returns the error `bad-data` with the message `what`. Line ends and control characters of `what`
 * become spaces. Otherwise a damaged file that `what` quotes could break the line or control the
 * terminal.
 */
export function badData(what: string, cause?: unknown): PodError {
  return new PodError('bad-data', what.replace(/[\p{Cc}\u2028\u2029]+/gu, ' '), cause);
}
