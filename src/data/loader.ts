import { PodError } from '../numerics/error.ts';
import type { Dataset } from './dataset.ts';
import { type FillScratch, fillScratch, fillStep } from './fill.ts';
import type { InfeedQueue } from './infeed.ts';
import type { Plan } from './plan.ts';

/**
 * The steps that a loader writes to its queues: `steps` steps of the plan, from step `firstStep`
 * on. The queues have their own step numbers: step `firstStep` + i of the plan is step `queueStep`
 * + i of each queue.
 */
export interface Feed {
  readonly dataset: Dataset;
  readonly plan: Plan;
  readonly firstStep: number;
  readonly steps: number;
  readonly queueStep: number;
}

/** Conditions under which a loader gives up. */
export interface LoaderLimits {
  /**
   * Longest time, in ms, that the loader waits until a Cloud TPU frees a slot of its queue. A Cloud
   * TPU that takes longer counts as lost.
   */
  readonly patienceMs: number;
  /** True if the loader must stop. Called several times a second and before each step. */
  readonly shouldStop: () => boolean;
}

/**
 * Main loop of a loader's thread. Writes one step to the queue of each of its Cloud TPUs, then the
 * next step. Waits for a free slot when a queue is full. Returns `stopped` if `shouldStop` returned
 * true or a queue was stopped, otherwise `finished`.
 *
 * @throws PodError `worker-silent`, naming the Cloud TPU that released no slot within `patienceMs`.
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

/**
 * Returns the queues that the loader with the index `loader` fills. `loaders` is the number of
 * loaders. Each loader fills every `loaders`-th queue, so that all loaders have equal work.
 */
export function shareOf<T>(queues: readonly T[], loader: number, loaders: number): T[] {
  return queues.filter((_, index) => index % loaders === loader);
}

/** Waits until the slot of `step` is free. Returns false if the loader must stop. */
function untilFree(queue: InfeedQueue, step: number, limits: LoaderLimits): boolean {
  const { patienceMs, shouldStop } = limits;
  for (let waitedMs = 0; !shouldStop(); waitedMs += lookMs) {
    if (queue.produce(step, Math.min(lookMs, patienceMs - waitedMs))) return true;
    if (queue.stopped) return false;
    if (waitedMs + lookMs >= patienceMs) throw silent(queue, patienceMs);
  }
  return false;
}

/** Longest time, in ms, between two calls of `shouldStop`. */
const lookMs = 100;

function fill(queue: InfeedQueue, feed: Feed, i: number, scratch: FillScratch): void {
  const { dataset, plan, firstStep } = feed;
  const step = feed.queueStep + i;
  const { tpu } = queue.geometry;
  fillStep(dataset, plan, tpu, firstStep + i, queue.images(step), queue.labels(step), scratch);
  queue.publish(step);
}

function silent(queue: InfeedQueue, patienceMs: number): PodError {
  const { tpu } = queue.geometry;
  return new PodError(
    'worker-silent',
    `Cloud TPU ${tpu}: expected the cores to take the oldest infeed, ` +
      `found it still in its slot after ${patienceMs} ms`,
  );
}
