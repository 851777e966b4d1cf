import { PodError } from '../../numerics/error.ts';

/**
 * Returns the error `bad-data` with the message `what`, in which line ends and control characters
 * are replaced by spaces. The message may quote a damaged file, whose content could otherwise break
 * the line or control the terminal.
 */
export function badData(what: string, cause?: unknown): PodError {
  return new PodError('bad-data', what.replace(/[\p{Cc}\u2028\u2029]+/gu, ' '), cause);
}
