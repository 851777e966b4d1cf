import { InfeedQueue } from '../../src/data/infeed.ts';
import { at } from '../../src/numerics/assert.ts';
import { infeedGeometry } from '../threads/layout.ts';
import { Loader, type LoaderParts } from './loader.ts';

/** The feeds of one Cloud TPU: a loader, and a queue for each program that takes one. */
export class NodeFeeds {
  readonly #parts: LoaderParts;
  readonly #loader: Loader;
  /** By program. */
  readonly #queues: readonly (InfeedQueue | undefined)[];
  /** By program: the step of the program that is step 0 of its queue, and the first not released. */
  #bases: number[];
  #next: number[];
  #isFed = false;

  constructor(parts: LoaderParts) {
    this.#parts = parts;
    this.#loader = new Loader(parts);
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
    this.#loader.wake();
  }

  /** Feeds programs from these steps on, by program. Only while nobody takes anything. */
  async begin(steps: readonly number[]): Promise<void> {
    steps.forEach((step, program) => {
      if (this.#isFedTo(program, step)) this.release(program, step);
    });
    if (this.#isFed && steps.every((step, i) => step === this.#next[i])) return;
    this.#stop();
    for (const queue of this.#queues) queue?.reset();
    this.#bases = [...steps];
    this.#next = [...steps];
    const { memory, layout } = this.#parts;
    const words = new Int32Array(memory.buffer);
    layout.feedBases.forEach((word, i) => {
      Atomics.store(words, word / 4, at(steps, i));
    });
    this.#loader.begin(steps);
    this.#isFed = true;
  }

  async end(): Promise<void> {
    this.#stop();
  }

  /** Whether `step` is the one after the last that was taken. */
  #isFedTo(program: number, step: number): boolean {
    return this.#isFed && step === at(this.#next, program) + 1;
  }

  #stop(): void {
    this.#loader.stop();
    for (const queue of this.#queues) queue?.stop();
    this.#isFed = false;
  }
}
