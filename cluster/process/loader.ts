import type { Dataset, DatasetPair } from '../../src/data/dataset.ts';
import { type FillScratch, fillSamples, fillScratch } from '../../src/data/fill.ts';
import { InfeedQueue } from '../../src/data/infeed.ts';
import { openDataset } from '../../src/data/open.ts';
import { assignSamples, type Plan, stepsPerPass, tpuBatch } from '../../src/data/plan.ts';
import { at } from '../../src/numerics/assert.ts';
import type { FeedSource, Program } from '../../src/pod/pod.ts';
import { planOf, splitOf } from '../threads/feed.ts';
import { infeedGeometry, type Layout } from '../threads/layout.ts';

/** What feeds all programs of one Cloud TPU. */
export interface LoaderParts {
  readonly tpu: number;
  readonly programs: readonly Program[];
  readonly memory: WebAssembly.Memory;
  readonly layout: Layout;
  /** Told why it has ended by itself. */
  readonly failed: (error: unknown) => void;
}

interface Feed {
  readonly source: FeedSource;
  readonly dataset: Dataset;
  readonly plan: Plan;
  readonly queue: InfeedQueue;
  readonly scratch: FillScratch;
  /** Step of the program that is step 0 of the queue. */
  readonly base: number;
  /** The step of the queue that comes next, and how many of its samples are there. */
  next: number;
  filled: number;
}

/** Samples made at a stretch: a fraction of a millisecond, so that tensors hardly wait for it. */
const samplesPerTurn = 8;

/**
 * Feeds all programs of one Cloud TPU in the thread of its process, a few samples between one event
 * and the next: so few go to one Cloud TPU that a thread for them would cost more than they do.
 */
export class Loader {
  readonly #parts: LoaderParts;
  readonly #opened: Map<string, DatasetPair> = new Map();
  #feeds: Feed[] = [];
  /** The feed whose turn it is. */
  #present = 0;
  #turn: NodeJS.Immediate | undefined;

  constructor(parts: LoaderParts) {
    this.#parts = parts;
  }

  /** Feeds every program from its step on, by program; the queues are new. */
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

  /** A slot may have become free. */
  wake(): void {
    this.#turn ??= setImmediate(() => this.#takeTurn());
  }

  /** Nothing is written any more. */
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

  /** Programs share what they are fed from. */
  #dataset(source: FeedSource): Dataset {
    const { dataset, datasetSeed } = source;
    const key = `${datasetSeed} ${dataset}`;
    const pair = this.#opened.get(key) ?? openDataset(dataset, datasetSeed);
    this.#opened.set(key, pair);
    return splitOf(source, pair);
  }

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

  /** The first feed with room, from the one whose turn it is on. */
  #nextFeed(): Feed | undefined {
    for (let i = 0; i < this.#feeds.length; i++, this.#present++) {
      const feed = at(this.#feeds, this.#present % this.#feeds.length);
      if (feed.queue.produce(feed.next, 0)) return feed;
    }
    return undefined;
  }
}

/** Makes some samples of a feed's next step; whether that was the last of them. */
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

/** Training is one pass without end, an evaluation the data set again and again. */
function stepOf({ order }: FeedSource, plan: Plan, step: number): number {
  return order === 'training' ? step : step % stepsPerPass(plan);
}
