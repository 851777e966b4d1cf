import { CommanderError } from 'commander';
import { PodError } from '../src/numerics/error.ts';

/**
 * Whether a run has failed for good: a master that goes on with its commits would fail in the same
 * way. What cannot be written now may be written once there is room.
 */
export function isFinal(error: unknown): error is PodError {
  return error instanceof PodError && error.code !== 'io' && error.code !== 'superseded';
}

/**
 * Whether a pod ends with this error, once and with its exit code: trying again would not help. A
 * crash of the master is none, and the master that was superseded has nobody to send home.
 */
export function endsPod(error: unknown): error is PodError | CommanderError {
  if (error instanceof CommanderError) return true;
  return error instanceof PodError && error.code !== 'superseded';
}

/** Exit codes that say that a process ended as it should, or failed in a way that stays. */
export const finalExitCodes: readonly number[] = [0, 2, 3, 4, 5, 130, 143];
