import type { Duration } from './plan.ts';

/** Returns true if a fault has ended, given the current step and the time in ms. */
export type IsOver = (step: number, nowMs: number) => boolean;

/**
 * Returns a function that tells whether a fault has ended. The fault begins in step `step` at the
 * time `nowMs`. If `duration` is undefined, the fault never ends.
 */
export function endOf(duration: Duration | undefined, step: number, nowMs: number): IsOver {
  const endStep = step + (duration?.steps ?? Number.POSITIVE_INFINITY);
  const endMs = nowMs + (duration?.ms ?? Number.POSITIVE_INFINITY);
  return (current, currentMs) => current >= endStep || currentMs >= endMs;
}
