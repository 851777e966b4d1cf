import type { Dataset } from '../../src/data/dataset.ts';
import { type FillScratch, fillScratch, fillStep } from '../../src/data/fill.ts';
import { InfeedQueue } from '../../src/data/infeed.ts';
import { type Plan, stepsPerPass } from '../../src/data/plan.ts';
import { at } from '../../src/numerics/assert.ts';
import type { FeedSource, Program } from '../../src/pod/pod.ts';
import { datasetOf, planOf } from '../threads/feed.ts';
import { infeedGeometry, type Layout } from '../threads/layout.ts';

/** What the thread that feeds one Cloud TPU is started with. */
export interface NodeLoaderTask {
  readonly tpu: number;
  readonly programs: readonly Program[];
  /** By program, the step that comes first. */
  readonly fromSteps: readonly number[];
  readonly memory: WebAssembly.Memory;
  readonly layout: Layout;
}

interface Feed {
  readonly source: FeedSource;
  readonly dataset: Dataset;
  readonly plan: Plan;
  readonly queue: InfeedQueue;
  readonly scratch: FillScratch;
  /** Step of the program that is step 0 of the queue. */
  readonly base: number;
  /** The step of the queue that comes next. */
  next: number;
}

/** How long it waits for one queue before it looks at the others, in ms. */
const lookMs = 20;

/** The life of a thread that feeds all programs of one Cloud TPU: ends when told to stop. */
export default function runLoader(task: NodeLoaderTask): void {
  const { programs, memory, layout } = task;
  const feeds = programs.flatMap(({ feed }, program) => {
    return feed === undefined ? [] : [openFeed(task, feed, program)];
  });
  const words = new Int32Array(memory.buffer);
  while (feeds.length > 0 && Atomics.load(words, layout.stop / 4) === 0) {
    const filled = feeds.filter((feed) => fillNext(feed, 0)).length;
    const [first] = feeds;
    if (filled === 0 && first !== undefined) fillNext(first, lookMs);
    if (feeds.some(({ queue }) => queue.stopped)) return;
  }
}

function openFeed(
  { tpu, programs, fromSteps, memory, layout }: NodeLoaderTask,
  source: FeedSource,
  program: number,
): Feed {
  const { executable } = at(programs, program);
  const dataset = datasetOf(source);
  const plan = planOf(source, dataset.size, layout.tpus.length, executable.cores);
  const place = at(at(layout.tpus, tpu).infeeds, program);
  const queue = new InfeedQueue(memory.buffer, place, infeedGeometry(executable, tpu));
  const scratch = fillScratch(dataset, plan);
  return { source, dataset, plan, queue, scratch, base: at(fromSteps, program), next: 0 };
}

/** Whether there was room, within `waitMs`. */
function fillNext(feed: Feed, waitMs: number): boolean {
  const { source, dataset, plan, queue, scratch, base, next } = feed;
  if (!queue.produce(next, waitMs)) return false;
  const { tpu } = queue.geometry;
  const step = stepOf(source, plan, base + next);
  fillStep(dataset, plan, tpu, step, queue.images(next), queue.labels(next), scratch);
  queue.publish(next);
  feed.next++;
  return true;
}

/** Training is one pass without end, an evaluation the data set again and again. */
function stepOf({ order }: FeedSource, plan: Plan, step: number): number {
  return order === 'training' ? step : step % stepsPerPass(plan);
}
