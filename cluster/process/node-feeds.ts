import { InfeedQueue } from '../../src/data/infeed.ts';
import { at } from '../../src/numerics/assert.ts';
import { infeedGeometry } from '../runtime/layout.ts';
import { Loader, type LoaderParts } from './loader.ts';

/**
 * The infeeds of one Cloud TPU: an infeed queue for each program with a feed, and the loader that
 * fills them.
 */
export class NodeFeeds {
  readonly #parts: LoaderParts;
  readonly #loader: Loader;
  /**
   * The infeed queue of each program, indexed by program; undefined for a program without a feed.
   */
  readonly #queues: readonly (InfeedQueue | undefined)[];
  /**
   * bases[p]: index of the first step of program p that was loaded after the queue was last
   * emptied; −1 before `begin`. This step has index 0 in the queue, so step s has index s −
   * bases[p].
   */
  #bases: number[];
  /**
   * next[p]: index of the first step of program p whose infeed slot has not been released; −1
   * before `begin`.
   */
  #next: number[];
  /** True while the loader may fill the queues: from `begin` until the loader is stopped. */
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

  /**
   * Releases the infeed slots of all steps of the given program before `step`. Those steps are
   * committed, so their samples are not needed any more.
   */
  release(program: number, step: number): void {
    const queue = this.#queues[program];
    for (let next = at(this.#next, program); next < step; next++) {
      queue?.release(next - at(this.#bases, program));
    }
    this.#next[program] = Math.max(step, at(this.#next, program));
    this.#loader.wake();
  }

  /**
   * Makes `steps[p]` the next step in the queue of each program p. If this already holds for all
   * queues, keeps the loaded samples. Otherwise empties all queues and loads them again. Call only
   * while no core reads its infeed.
   */
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

  /**
   * True if the loader runs and the slot of step `step` − 1 is the only one that must be released
   * before the queue of the given program continues at step `step`.
   */
  #isFedTo(program: number, step: number): boolean {
    return this.#isFed && step === at(this.#next, program) + 1;
  }

  #stop(): void {
    this.#loader.stop();
    for (const queue of this.#queues) queue?.stop();
    this.#isFed = false;
  }
}
