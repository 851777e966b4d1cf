import { PodError } from '../../numerics/error.ts';

/**
 * Returns the error `bad-data`. Its message is `what`, with spaces in place of line ends and
 * control characters, because `what` may quote a damaged file. The content of that file could
 * otherwise break the line or control the terminal.
 */
export function badData(what: string, cause?: unknown): PodError {
  return new PodError('bad-data', what.replace(/[\p{Cc}\u2028\u2029]+/gu, ' '), cause);
}
