import { PodError } from '../numerics/error.ts';
import type { FabricLayout } from './fabric-memory.ts';
import { sharedLine, workerLine } from './fabric-memory.ts';

/** Words of a worker's line. */
const bell = 0;
const waiting = 1;
const started = 2;
const finished = 3;

const awake = 0;
const asleep = 1;

/**
 * How the workers of a process wake each other: a word each, on which a worker with nothing to do
 * sleeps. Rings are gathered while a worker makes progress and sent together, and only to those
 * that sleep, so that a wake-up finds as much work as possible.
 *
 * A worker falls asleep in two steps: {@link prepare}, then a last look at its queues, then
 * {@link sleep}. Whoever fills a queue between them finds the bell set and takes it back.
 */
export class Doorbell {
  readonly #words: Int32Array;
  readonly #layout: FabricLayout;
  readonly #own: number;
  readonly #worker: number;
  readonly #abort: number;
  readonly #marked: Uint8Array;
  #anyMarked = false;

  constructor(memory: WebAssembly.Memory, layout: FabricLayout, worker: number) {
    this.#words = new Int32Array(memory.buffer);
    this.#layout = layout;
    this.#worker = worker;
    this.#own = workerLine(layout, worker) / 4;
    this.#abort = sharedLine(layout) / 4;
    this.#marked = new Uint8Array(layout.workers);
  }

  /** Notes that `worker` has something to do. */
  mark(worker: number): void {
    if (worker === this.#worker) return;
    this.#marked[worker] = 1;
    this.#anyMarked = true;
  }

  /** Wakes the marked workers that sleep. */
  ring(): void {
    if (!this.#anyMarked) return;
    this.#anyMarked = false;
    for (let worker = 0; worker < this.#marked.length; worker++) {
      if (this.#marked[worker] === 0) continue;
      this.#marked[worker] = 0;
      wake(this.#words, this.#layout, worker);
    }
  }

  /** Says that this worker is about to sleep unless it still finds something to do. */
  prepare(): void {
    Atomics.store(this.#words, this.#own + bell, asleep);
  }

  /** Takes {@link prepare} back. */
  stayAwake(): void {
    Atomics.store(this.#words, this.#own + bell, awake);
  }

  /** Sleeps until rung, at most `timeoutMs`. */
  sleep(timeoutMs: number): void {
    Atomics.wait(this.#words, this.#own + bell, asleep, timeoutMs);
    this.stayAwake();
  }

  /** Publishes the number of all-reduces that this worker has started. */
  publishStarted(count: number): void {
    Atomics.store(this.#words, this.#own + started, count);
  }

  /** Publishes the number of all-reduces that this worker has finished. */
  publishFinished(count: number): void {
    Atomics.store(this.#words, this.#own + finished, count);
  }

  /** The number of all-reduces that were published as finished for this worker. */
  get finished(): number {
    return this.#read(this.#own + finished);
  }

  /** Wakes this worker itself, whose all-reduces run on another thread than its own. */
  wakeOwn(): void {
    wake(this.#words, this.#layout, this.#worker);
  }

  /** Publishes whether this worker waits for others rather than computes. */
  publishWaiting(isWaiting: boolean): void {
    Atomics.store(this.#words, this.#own + waiting, isWaiting ? 1 : 0);
  }

  /**
   * Workers that the all-reduce number `collective` (from 0) waits for: they have not finished it,
   * and they have not started it or do not wait for anybody. `_neighbours` are at the far ends of
   * the links that hold this worker up.
   */
  silent(collective: number, _neighbours: readonly number[]): readonly number[] {
    const workers = Array.from({ length: this.#layout.workers }, (_, worker) => worker);
    return workers.filter((worker) => {
      const line = workerLine(this.#layout, worker) / 4;
      if (worker === this.#worker || this.#read(line + finished) > collective) return false;
      return this.#read(line + started) <= collective || this.#read(line + waiting) === 0;
    });
  }

  /** Throws when the master has ended every wait. */
  check(): void {
    if (this.#read(this.#abort) === 0) return;
    throw new PodError('link-timeout', `Cloud TPU ${this.#worker}: all-reduce ended by the master`);
  }

  #read(word: number): number {
    return Atomics.load(this.#words, word);
  }
}

/** Ends every wait of every worker at once, with `link-timeout`. For the master. */
export function abortFabric(memory: WebAssembly.Memory, layout: FabricLayout): void {
  const words = new Int32Array(memory.buffer);
  Atomics.store(words, sharedLine(layout) / 4, 1);
  for (let worker = 0; worker < layout.workers; worker++) wake(words, layout, worker);
}

function wake(words: Int32Array, layout: FabricLayout, worker: number): void {
  const word = workerLine(layout, worker) / 4 + bell;
  if (Atomics.compareExchange(words, word, asleep, awake) === asleep) Atomics.notify(words, word);
}
