import { fileURLToPath } from 'node:url';
import { Piscina } from 'piscina';
import { InfeedQueue } from '../../src/data/infeed.ts';
import { at } from '../../src/numerics/assert.ts';
import type { Program } from '../../src/pod/pod.ts';
import { infeedGeometry, type Layout } from '../threads/layout.ts';
import type { NodeLoaderTask } from './loader.ts';

/** What feeds are made of. */
export interface NodeFeedParts {
  readonly tpu: number;
  readonly programs: readonly Program[];
  readonly memory: WebAssembly.Memory;
  readonly layout: Layout;
  /** Told when the loader ends by itself. */
  readonly failed: (error: unknown) => void;
}

/** The feeds of one Cloud TPU: one loader thread, and a queue for each program that takes one. */
export class NodeFeeds {
  readonly #parts: NodeFeedParts;
  /** By program. */
  readonly #queues: readonly (InfeedQueue | undefined)[];
  /** By program: the step of the program that is step 0 of its queue, and the first not released. */
  #bases: number[];
  #next: number[];
  #end: (() => Promise<void>) | undefined;

  constructor(parts: NodeFeedParts) {
    this.#parts = parts;
    const { programs, layout, tpu, memory } = parts;
    this.#queues = programs.map(({ feed, executable }, program) => {
      if (feed === undefined) return undefined;
      const place = at(at(layout.tpus, tpu).infeeds, program);
      return new InfeedQueue(memory.buffer, place, infeedGeometry(executable, tpu));
    });
    this.#bases = programs.map(() => -1);
    this.#next = programs.map(() => -1);
  }

  /** Steps before `step` of a program count: nobody needs what they were fed any more. */
  release(program: number, step: number): void {
    const queue = this.#queues[program];
    for (let next = at(this.#next, program); next < step; next++) {
      queue?.release(next - at(this.#bases, program));
    }
    this.#next[program] = Math.max(step, at(this.#next, program));
  }

  /** Feeds programs from these steps on, by program. Only while nobody takes anything. */
  async begin(steps: readonly number[]): Promise<void> {
    steps.forEach((step, program) => {
      if (this.#isFedTo(program, step)) this.release(program, step);
    });
    if (this.#end !== undefined && steps.every((step, i) => step === this.#next[i])) return;
    await this.#stopLoader();
    for (const queue of this.#queues) queue?.reset();
    this.#bases = [...steps];
    this.#next = [...steps];
    const { memory, layout } = this.#parts;
    const words = new Int32Array(memory.buffer);
    layout.feedBases.forEach((word, i) => {
      Atomics.store(words, word / 4, at(steps, i));
    });
    this.#end = this.#startLoader(steps);
  }

  async end(): Promise<void> {
    await this.#stopLoader();
  }

  /** Whether `step` is the one after the last that was taken. */
  #isFedTo(program: number, step: number): boolean {
    return this.#end !== undefined && step === at(this.#next, program) + 1;
  }

  async #stopLoader(): Promise<void> {
    for (const queue of this.#queues) queue?.stop();
    await this.#end?.();
    this.#end = undefined;
  }

  #startLoader(fromSteps: readonly number[]): () => Promise<void> {
    const { tpu, programs, memory, layout, failed } = this.#parts;
    const task: NodeLoaderTask = { tpu, programs, fromSteps, memory, layout };
    const pool = new Piscina({
      filename: fileURLToPath(new URL('./loader.js', import.meta.url)),
      minThreads: 0,
      maxThreads: 1,
      idleTimeout: Number.POSITIVE_INFINITY,
      atomics: 'disabled',
    });
    let isEnded = false;
    const end = (error: unknown): void => {
      if (!isEnded) failed(error);
    };
    pool.on('error', end);
    pool.run(task).then(() => end(new Error('it ended by itself')), end);
    return async () => {
      isEnded = true;
      await Promise.all(pool.threads.map((thread) => thread.terminate()));
      await pool.destroy();
    };
  }
}
