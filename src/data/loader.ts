import { PodError } from '../numerics/error.ts';
import type { Dataset } from './dataset.ts';
import { type FillScratch, fillScratch, fillStep } from './fill.ts';
import type { InfeedQueue } from './infeed.ts';
import type { Plan } from './plan.ts';

/** Steps to be fed: `steps` of a plan from `firstStep` on, as those of the queues from `queueStep` on. */
export interface Feed {
  readonly dataset: Dataset;
  readonly plan: Plan;
  readonly firstStep: number;
  readonly steps: number;
  readonly queueStep: number;
}

/** When a loader gives up. */
export interface LoaderLimits {
  /** Longest time that one slot may stay occupied: a consumer that takes longer is lost. */
  readonly patienceMs: number;
  /** Asked several times a second and before each step. */
  readonly shouldStop: () => boolean;
}

/**
 * What a loader's thread runs: fills the queues of its Cloud TPUs, a step for all of them before
 * the next, as far ahead as the queues are deep. `stopped` when told to, or when a queue was stopped.
 *
 * @throws PodError `worker-silent`, naming the Cloud TPU that took nothing within the patience.
 */
export function loaderLoop(
  queues: readonly InfeedQueue[],
  feed: Feed,
  limits: LoaderLimits,
): 'finished' | 'stopped' {
  const scratch = fillScratch(feed.dataset, feed.plan);
  for (let i = 0; i < feed.steps; i++) {
    for (const queue of queues) {
      if (!untilFree(queue, feed.queueStep + i, limits)) return 'stopped';
      fill(queue, feed, i, scratch);
    }
  }
  return 'finished';
}

/** The queues that loader `loader` of `loaders` fills: every `loaders`-th, so the work is even. */
export function shareOf<T>(queues: readonly T[], loader: number, loaders: number): T[] {
  return queues.filter((_, index) => index % loaders === loader);
}

/** False when the loader is to stop. */
function untilFree(queue: InfeedQueue, step: number, limits: LoaderLimits): boolean {
  const { patienceMs, shouldStop } = limits;
  for (let waitedMs = 0; !shouldStop(); waitedMs += lookMs) {
    if (queue.produce(step, Math.min(lookMs, patienceMs - waitedMs))) return true;
    if (queue.stopped) return false;
    if (waitedMs + lookMs >= patienceMs) throw silent(queue, step, patienceMs);
  }
  return false;
}

/** Time between two looks at whether to stop. */
const lookMs = 100;

function fill(queue: InfeedQueue, feed: Feed, i: number, scratch: FillScratch): void {
  const { dataset, plan, firstStep } = feed;
  const step = feed.queueStep + i;
  const { tpu } = queue.geometry;
  fillStep(dataset, plan, tpu, firstStep + i, queue.images(step), queue.labels(step), scratch);
  queue.publish(step);
}

function silent(queue: InfeedQueue, step: number, patienceMs: number): PodError {
  const { tpu, depth } = queue.geometry;
  return new PodError(
    'worker-silent',
    `Cloud TPU ${tpu}: expected it to take its infeed of step ${Math.max(step - depth, 0)}, ` +
      `found it there still after ${patienceMs} ms`,
  );
}
