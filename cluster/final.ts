import { CommanderError } from 'commander';
import { PodError } from '../src/numerics/error.ts';

/**
 * True if another master that continued the run from its commit log would fail in the same way. An
 * error of code `io` is not final, because writing may succeed once the disk has room again.
 */
export function isFinal(error: unknown): error is PodError {
  return error instanceof PodError && error.code !== 'io' && error.code !== 'superseded';
}

/**
 * True if this error of a master ends the whole pod with its exit code, because another try would
 * fail too. False for a crash, and for `superseded`: then the workers belong to a newer master.
 */
export function endsPod(error: unknown): error is PodError | CommanderError {
  if (error instanceof CommanderError) return true;
  return error instanceof PodError && error.code !== 'superseded';
}

/** Exit codes of a process that is not restarted: success, or a failure that would happen again. */
export const finalExitCodes: readonly number[] = [0, 2, 3, 4, 5, 130, 143];
