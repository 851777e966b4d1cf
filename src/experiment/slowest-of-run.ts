import type { LinkWait, SlowestOfRun, StepCommitted } from './event.ts';
import { slowestAmongOthers } from './straggler.ts';

/** Sums over the steps in which one Cloud TPU was the slowest. Times in ms. */
interface Sums {
  steps: number;
  ownMs: number;
  othersMs: number;
  causedMs: number;
  /**
   * For the name of each link that was the slowest link in at least one of these steps: the number
   * of those steps, and the sum of the waits on the link in those steps.
   */
  readonly links: Map<string, { steps: number; waitMs: number }>;
}

/**
 * Returns the Cloud TPU that was the slowest in the largest number of steps. If several have this
 * number, returns the one that was the slowest earliest. Returns undefined if the slice has one
 * Cloud TPU, or if no step has the times of each Cloud TPU.
 */
export function slowestOfRun(
  history: readonly Pick<StepCommitted, 'slowest' | 'timing'>[],
): SlowestOfRun | undefined {
  const perTpu = new Map<number, Sums>();
  let ofSteps = 0;
  for (const step of history) {
    const found = slowestAmongOthers(step);
    if (found === undefined) continue;
    const { slowest, timing } = found;
    const sums = perTpu.get(slowest.tpu) ?? noSums();
    sums.steps++;
    sums.ownMs += slowest.ownMs;
    sums.othersMs += slowest.othersMs;
    sums.causedMs += timing.causedMs;
    addLink(sums, timing.slowestLink);
    perTpu.set(slowest.tpu, sums);
    ofSteps++;
  }
  const [most] = [...perTpu].sort(([, a], [, b]) => b.steps - a.steps);
  if (most === undefined) return undefined;
  const [tpu, { steps, ownMs, othersMs, causedMs, links }] = most;
  const slowestLink = slowestOf(links);
  const mean = (sumMs: number): number => sumMs / steps;
  return {
    ...{ tpu, steps, ofSteps },
    ...{ ownMs: mean(ownMs), othersMs: mean(othersMs), causedMs: mean(causedMs) },
    ...(slowestLink && { slowestLink }),
  };
}

function noSums(): Sums {
  return { steps: 0, ownMs: 0, othersMs: 0, causedMs: 0, links: new Map() };
}

function addLink({ links }: Sums, slowest: LinkWait | undefined): void {
  if (slowest === undefined) return;
  const sums = links.get(slowest.link) ?? { steps: 0, waitMs: 0 };
  sums.steps++;
  sums.waitMs += slowest.waitMs;
  links.set(slowest.link, sums);
}

/** Returns the link that was the slowest in most steps, with its mean wait in these steps. */
function slowestOf(links: Sums['links']): LinkWait | undefined {
  const [most] = [...links].sort(([, a], [, b]) => b.steps - a.steps);
  if (most === undefined) return undefined;
  const [link, { steps, waitMs }] = most;
  return { link, waitMs: waitMs / steps };
}
