import { InfeedQueue } from '../../src/data/infeed.ts';
import { assert, at } from '../../src/numerics/assert.ts';
import type { FeedSource, Program } from '../../src/pod/pod.ts';
import { infeedGeometry, type Layout } from '../runtime/layout.ts';
import { startTaskThread, type TaskThread } from '../runtime/life.ts';
import type { LoaderTask } from '../runtime/task.ts';

/** Feed of one program: the queues of all Cloud TPUs and the thread that fills them. */
interface ProgramFeed {
  readonly program: number;
  readonly source: FeedSource;
  /** The infeed queue of each Cloud TPU, indexed by the number of the Cloud TPU. */
  readonly queues: readonly InfeedQueue[];
  loader: TaskThread;
  /**
   * The first step of the program that was loaded since the queues were last emptied. Step s of the
   * program has number s − `base` in the queues.
   */
  base: number;
  /** Index of the first step of the program whose infeed slots have not been released. */
  next: number;
}

/**
 * The feeds of a slice: for each program with a feed, a loader thread and an infeed queue for each
 * Cloud TPU.
 */
export class Feeds {
  readonly #memory: WebAssembly.Memory;
  readonly #words: Int32Array;
  readonly #layout: Layout;
  readonly #programs: readonly Program[];
  readonly #failed: (error: unknown) => void;
  readonly #fed: readonly ProgramFeed[];
  #rollingBack: Promise<void> = Promise.resolve();

  /**
   * Starts a loader for each program with a feed. `startSteps[p]`: first step of program p to load.
   * `failed` is called if a loader fails, or ends without a call of `end`.
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
    this.#fed = programs.flatMap(({ feed, executable }, program): ProgramFeed[] => {
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

  /**
   * Releases the infeed slots of a step that will not run again. Steps must be released in order.
   */
  release(program: number, step: number): void {
    const fed = this.#fed.find((it) => it.program === program);
    if (fed === undefined) return;
    assert(step === fed.next, `the feed of step ${step} is released, ${fed.next} is next`);
    for (const queue of fed.queues) queue.release(step - fed.base);
    fed.next++;
  }

  /**
   * Makes the feed of each program p continue at step `steps[p]`. A feed that already continues
   * there stays as it is; any other feed is emptied and loaded again.
   */
  rollBack(steps: readonly number[]): Promise<void> {
    const now = (): Promise<unknown> =>
      Promise.all(this.#fed.map((fed) => this.#restart(fed, at(steps, fed.program))));
    this.#rollingBack = this.#rollingBack.then(async () => void (await now()));
    return this.#rollingBack;
  }

  /**
   * Empties the queues of the given feed and starts its loader at `step`, unless the feed already
   * continues at `step`. Call only while no core reads its infeed.
   */
  async #restart(fed: ProgramFeed, step: number): Promise<void> {
    if (step === fed.next) return;
    stop(fed);
    await fed.loader.end();
    for (const queue of fed.queues) queue.reset();
    fed.base = step;
    fed.next = step;
    fed.loader = this.#startLoader(fed.program, fed.source, step);
  }

  /**
   * Stops all queues for good. Loaders that wait for a free slot, and cores that wait for a filled
   * slot, stop waiting.
   */
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

  #startLoader(program: number, feed: FeedSource, fromStep: number): TaskThread {
    Atomics.store(this.#words, at(this.#layout.feedBases, program) / 4, fromStep);
    const task: LoaderTask = {
      program,
      feed,
      fromStep,
      programs: this.#programs,
      memory: this.#memory,
      layout: this.#layout,
    };
    return startTaskThread('threads/loader', task, [], {
      done: () => this.#failed(new Error('the thread ended unexpectedly')),
      failed: this.#failed,
    });
  }
}

function stop({ queues }: ProgramFeed): void {
  for (const queue of queues) queue.stop();
}
