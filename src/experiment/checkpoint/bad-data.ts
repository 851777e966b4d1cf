import { PodError } from '../../numerics/error.ts';

/**
 * What is wrong with a file, in one line: `what` may quote the file, and a damaged file may hold
 * anything, also what would end the line or command a terminal.
 */
export function badData(what: string, cause?: unknown): PodError {
  return new PodError('bad-data', what.replace(/[\p{Cc}\u2028\u2029]+/gu, ' '), cause);
}
