import type { Dataset, DatasetPair } from '../../src/data/dataset.ts';
import { type FillScratch, fillSamples, fillScratch } from '../../src/data/fill.ts';
import { InfeedQueue } from '../../src/data/infeed.ts';
import { openDataset } from '../../src/data/open.ts';
import { assignSamples, type Plan, stepsPerPass, tpuBatch } from '../../src/data/plan.ts';
import { at } from '../../src/numerics/assert.ts';
import type { FeedSource, Program } from '../../src/pod/pod.ts';
import { planOf, splitOf } from '../runtime/feed.ts';
import { infeedGeometry, type Layout } from '../runtime/layout.ts';

/** Constructor arguments of a {@link Loader}. */
export interface LoaderParts {
  readonly tpu: number;
  readonly programs: readonly Program[];
  readonly memory: WebAssembly.Memory;
  readonly layout: Layout;
  /** Called with the error that has stopped the loader. */
  readonly failed: (error: unknown) => void;
}

/** Feed of one program, and how far the loader has filled its queue. */
interface Feed {
  readonly source: FeedSource;
  readonly dataset: Dataset;
  readonly plan: Plan;
  readonly queue: InfeedQueue;
  readonly scratch: FillScratch;
  /**
   * Index, in the program, of the step that has index 0 in the queue. When a queue is emptied, the
   * first step that is filled in afterwards gets index 0.
   */
  readonly base: number;
  /**
   * Index, in the queue, of the step whose samples the loader makes next. In the program this step
   * has the index `base` + `next`.
   */
  next: number;
  /**
   * How many samples of the step `next` the loader has already written to the step's slot of the
   * queue.
   */
  filled: number;
}

/**
 * How many samples the loader makes before it returns to the event loop. Eight take a fraction of a
 * millisecond, so the frames that the same thread sends and receives are hardly delayed.
 */
const samplesPerTurn = 8;

/**
 * Loads the samples of all programs of one Cloud TPU on the main thread of its process, a few at a
 * time between other events. One Cloud TPU needs so few samples that a separate thread for the
 * loader would cost more than the loading itself.
 */
export class Loader {
  readonly #parts: LoaderParts;
  readonly #opened: Map<string, DatasetPair> = new Map();
  #feeds: Feed[] = [];
  /**
   * Counter that selects the feed to fill next: the feed with the index `#present` modulo the
   * number of feeds.
   */
  #present = 0;
  #turn: NodeJS.Immediate | undefined;

  constructor(parts: LoaderParts) {
    this.#parts = parts;
  }

  /**
   * Starts to fill the queues, which must be empty. `fromSteps[p]`: first step of program p to
   * load. An error stops the loader and is passed to `failed`.
   */
  begin(fromSteps: readonly number[]): void {
    this.stop();
    try {
      this.#feeds = this.#parts.programs.flatMap(({ feed }, program) => {
        return feed === undefined ? [] : [this.#open(feed, program, at(fromSteps, program))];
      });
    } catch (error) {
      this.#parts.failed(error);
      return;
    }
    this.wake();
  }

  /**
   * Lets the loader continue after all events that are pending now. Called when a slot of a queue
   * may be free again.
   */
  wake(): void {
    this.#turn ??= setImmediate(() => this.#takeTurn());
  }

  /** Stops loading. After this call the loader writes nothing to the queues. */
  stop(): void {
    clearImmediate(this.#turn);
    this.#turn = undefined;
    this.#feeds = [];
  }

  #open(source: FeedSource, program: number, base: number): Feed {
    const { tpu, programs, memory, layout } = this.#parts;
    const { executable } = at(programs, program);
    const dataset = this.#dataset(source);
    const plan = planOf(source, dataset.size, layout.tpus.length, executable.cores);
    const place = at(at(layout.tpus, tpu).infeeds, program);
    const queue = new InfeedQueue(memory.buffer, place, infeedGeometry(executable, tpu));
    const scratch = fillScratch(dataset, plan);
    return { source, dataset, plan, queue, scratch, base, next: 0, filled: 0 };
  }

  /**
   * Returns the dataset of the given feed. Feeds with the same dataset and seed share one opened
   * copy.
   */
  #dataset(source: FeedSource): Dataset {
    const { dataset, datasetSeed } = source;
    const key = `${datasetSeed} ${dataset}`;
    const pair = this.#opened.get(key) ?? openDataset(dataset, datasetSeed);
    this.#opened.set(key, pair);
    return splitOf(source, pair);
  }

  /**
   * If a queue has a free slot, makes a few samples for that queue and schedules the next call. If
   * all queues are full, does nothing.
   */
  #takeTurn(): void {
    this.#turn = undefined;
    const feed = this.#nextFeed();
    if (feed === undefined) return;
    try {
      if (fillSome(feed, this.#parts.tpu)) this.#present++;
    } catch (error) {
      this.stop();
      this.#parts.failed(error);
      return;
    }
    this.wake();
  }

  /**
   * Returns the first feed whose queue has a free slot, beginning with the feed that `#present`
   * selects; undefined if all queues are full.
   */
  #nextFeed(): Feed | undefined {
    for (let i = 0; i < this.#feeds.length; i++, this.#present++) {
      const feed = at(this.#feeds, this.#present % this.#feeds.length);
      if (feed.queue.produce(feed.next, 0)) return feed;
    }
    return undefined;
  }
}

/**
 * Makes some samples of the step that `feed` needs next. If all samples of the step are then made,
 * publishes the step to the queue and returns true. Otherwise returns false.
 */
function fillSome(feed: Feed, tpu: number): boolean {
  const { source, dataset, plan, queue, scratch, base, next, filled } = feed;
  const count = tpuBatch(plan);
  if (filled === 0) assignSamples(plan, tpu, stepOf(source, plan, base + next), scratch.samples);
  const to = Math.min(filled + samplesPerTurn, count);
  const slot = { images: queue.images(next), labels: queue.labels(next) };
  fillSamples(dataset, slot, { from: filled, to }, scratch);
  feed.filled = to === count ? 0 : to;
  if (to < count) return false;
  queue.publish(next);
  feed.next++;
  return true;
}

/**
 * Returns the index in `plan` for the step with the index `step` of a program. The plan says which
 * core gets which samples in each step. A training plan has no end, so both indices are equal. An
 * evaluation plan covers the dataset once. Its steps are then repeated, so its index is `step`
 * modulo the number of its steps.
 */
function stepOf({ order }: FeedSource, plan: Plan, step: number): number {
  return order === 'training' ? step : step % stepsPerPass(plan);
}
