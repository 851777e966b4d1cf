import { PodError } from '../src/numerics/error.ts';

/** Whether another master would fail in the same way: nobody need wait for one. */
export function isFinal(error: unknown): error is PodError {
  return error instanceof PodError && error.code !== 'io' && error.code !== 'superseded';
}
