import { InfeedQueue } from '../../src/data/infeed.ts';
import { assert, at } from '../../src/numerics/assert.ts';
import type { FeedSource, Program } from '../../src/pod/pod.ts';
import { infeedGeometry, type Layout } from './layout.ts';
import { type Life, startLife } from './life.ts';
import type { LoaderTask } from './task.ts';

/** One program's feed. */
interface Fed {
  readonly program: number;
  readonly source: FeedSource;
  /** By Cloud TPU. */
  readonly queues: readonly InfeedQueue[];
  loader: Life;
  /** Step of the program that is step 0 of the queues. */
  base: number;
  /** The step that comes next. */
  next: number;
}

/** The feeds of a slice: a loader thread for each program that takes one, and its queues. */
export class Feeds {
  readonly #memory: WebAssembly.Memory;
  readonly #words: Int32Array;
  readonly #layout: Layout;
  readonly #programs: readonly Program[];
  readonly #failed: (error: unknown) => void;
  readonly #fed: readonly Fed[];
  #rollingBack: Promise<void> = Promise.resolve();

  /**
   * Starts the loaders, each at the step of its program in `startSteps`. `failed` is told of one
   * that ends by itself.
   */
  constructor(
    memory: WebAssembly.Memory,
    layout: Layout,
    programs: readonly Program[],
    failed: (error: unknown) => void,
    startSteps: readonly number[],
  ) {
    this.#memory = memory;
    this.#words = new Int32Array(memory.buffer);
    this.#layout = layout;
    this.#programs = programs;
    this.#failed = failed;
    this.#fed = programs.flatMap(({ feed, executable }, program): Fed[] => {
      if (feed === undefined) return [];
      const queues = layout.tpus.map(({ infeeds }, tpu) => {
        const place = at(infeeds, program);
        return new InfeedQueue(memory.buffer, place, infeedGeometry(executable, tpu));
      });
      const base = at(startSteps, program);
      const loader = this.#startLoader(program, feed, base);
      return [{ program, source: feed, queues, loader, base, next: base }];
    });
  }

  /** The step counts: nobody needs what it was fed any more. */
  release(program: number, step: number): void {
    const fed = this.#fed.find((it) => it.program === program);
    if (fed === undefined) return;
    assert(step === fed.next, `the feed of step ${step} is released, ${fed.next} is next`);
    for (const queue of fed.queues) queue.release(step - fed.base);
    fed.next++;
  }

  /** Feeds programs from these steps on, by program, where something else would come next. */
  rollBack(steps: readonly number[]): Promise<void> {
    const now = (): Promise<unknown> =>
      Promise.all(this.#fed.map((fed) => this.#restart(fed, at(steps, fed.program))));
    this.#rollingBack = this.#rollingBack.then(async () => void (await now()));
    return this.#rollingBack;
  }

  /** Only while nobody takes anything. */
  async #restart(fed: Fed, step: number): Promise<void> {
    if (step === fed.next) return;
    stop(fed);
    await fed.loader.end();
    for (const queue of fed.queues) queue.reset();
    fed.base = step;
    fed.next = step;
    fed.loader = this.#startLoader(fed.program, fed.source, step);
  }

  /** Ends every wait between loaders and workers. */
  stop(): void {
    Atomics.store(this.#words, this.#layout.stop / 4, 1);
    this.#fed.forEach(stop);
  }

  async end(): Promise<void> {
    this.stop();
    await this.#rollingBack;
    this.stop();
    await Promise.all(this.#fed.map(({ loader }) => loader.end()));
  }

  #startLoader(program: number, feed: FeedSource, fromStep: number): Life {
    Atomics.store(this.#words, at(this.#layout.feedBases, program) / 4, fromStep);
    const task: LoaderTask = {
      program,
      feed,
      fromStep,
      programs: this.#programs,
      memory: this.#memory,
      layout: this.#layout,
    };
    return startLife('loader', task, [], {
      done: () => this.#failed(new Error('it ended by itself')),
      failed: this.#failed,
    });
  }
}

function stop({ queues }: Fed): void {
  for (const queue of queues) queue.stop();
}
