import type { SlowestOfRun, StepCommitted } from './event.ts';

/** Sums over the steps in which one Cloud TPU was the slowest. Times in ms. */
interface Sums {
  steps: number;
  ownMs: number;
  othersMs: number;
  causedMs: number;
}

/**
 * Returns the Cloud TPU that was the slowest in most of the steps; of two with the same number of
 * steps, the one that was the slowest first. Returns undefined if the slice has one Cloud TPU, or if
 * no step has the times of each Cloud TPU.
 */
export function slowestOfRun(
  history: readonly Pick<StepCommitted, 'slowest' | 'timing'>[],
): SlowestOfRun | undefined {
  const perTpu = new Map<number, Sums>();
  let ofSteps = 0;
  for (const { slowest, timing } of history) {
    if (slowest === undefined || timing === undefined || slowest.othersMs === 0) continue;
    const sums = perTpu.get(slowest.tpu) ?? { steps: 0, ownMs: 0, othersMs: 0, causedMs: 0 };
    sums.steps++;
    sums.ownMs += slowest.ownMs;
    sums.othersMs += slowest.othersMs;
    sums.causedMs += timing.causedMs;
    perTpu.set(slowest.tpu, sums);
    ofSteps++;
  }
  const [most] = [...perTpu].sort(([, a], [, b]) => b.steps - a.steps);
  if (most === undefined) return undefined;
  const [tpu, { steps, ownMs, othersMs, causedMs }] = most;
  const mean = (sumMs: number): number => sumMs / steps;
  return {
    ...{ tpu, steps, ofSteps },
    ...{ ownMs: mean(ownMs), othersMs: mean(othersMs), causedMs: mean(causedMs) },
  };
}
