import { PodError } from '../numerics/error.ts';
import type { FabricLayout } from './fabric-memory.ts';
import { sharedLine, workerLine } from './fabric-memory.ts';

/** Indices of the 32-bit words in the cache line of one worker. */
const bell = 0;
const waiting = 1;
const started = 2;
const finished = 3;

const awake = 0;
const asleep = 1;

/**
 * Lets the workers of a process wake each other. A worker that has nothing to do sleeps on its
 * bell, a word of shared memory. A worker that sends first marks the workers that it has given work
 * ({@link mark}). It wakes all marked workers together ({@link ring}) after it has run all its
 * lanes once. So a woken worker finds as much work as possible.
 *
 * A worker falls asleep in three steps:
 *
 * 1. It calls {@link prepare}, which sets its bell to asleep.
 * 2. It looks at its queues once more.
 * 3. It calls {@link sleep}.
 *
 * If another worker rings after step 1, the bell is set back to awake, and `sleep` returns at once.
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

  /** Records that `worker` has something to do. The next call of {@link ring} wakes `worker`. */
  mark(worker: number): void {
    if (worker === this.#worker) return;
    this.#marked[worker] = 1;
    this.#anyMarked = true;
  }

  /** Wakes the marked workers that sleep, and clears all marks. */
  ring(): void {
    if (!this.#anyMarked) return;
    this.#anyMarked = false;
    for (let worker = 0; worker < this.#marked.length; worker++) {
      if (this.#marked[worker] === 0) continue;
      this.#marked[worker] = 0;
      wake(this.#words, this.#layout, worker);
    }
  }

  /**
   * Sets this worker's bell to asleep. Work that arrived before this call does not wake the worker.
   * So the worker must look at its queues once more before it calls {@link sleep}.
   */
  prepare(): void {
    Atomics.store(this.#words, this.#own + bell, asleep);
  }

  /** Undoes {@link prepare}: the worker has found something to do. */
  stayAwake(): void {
    Atomics.store(this.#words, this.#own + bell, awake);
  }

  /** Sleeps until another thread wakes this worker, at most `timeoutMs`. */
  sleep(timeoutMs: number): void {
    Atomics.wait(this.#words, this.#own + bell, asleep, timeoutMs);
    this.stayAwake();
  }

  /** Publishes how many all-reduces this worker has started. */
  publishStarted(count: number): void {
    Atomics.store(this.#words, this.#own + started, count);
  }

  /** Publishes how many all-reduces this worker has finished. */
  publishFinished(count: number): void {
    Atomics.store(this.#words, this.#own + finished, count);
  }

  /** How many all-reduces this worker has finished, as published last. */
  get finished(): number {
    return this.#read(this.#own + finished);
  }

  /**
   * Wakes this worker's own thread. Called by the worker's engine, a second thread that runs the
   * worker's all-reduces.
   */
  wakeOwn(): void {
    wake(this.#words, this.#layout, this.#worker);
  }

  /**
   * Publishes whether this worker waits for other workers. A worker that computes does not wait.
   */
  publishWaiting(isWaiting: boolean): void {
    Atomics.store(this.#words, this.#own + waiting, isWaiting ? 1 : 0);
  }

  /**
   * Returns the workers to blame if the all-reduce with index `collective` (from 0) is late.
   * Another worker is to blame if it has not started this all-reduce. It is also to blame if it has
   * started the all-reduce, has not finished it, and does not wait for others. `_neighbours` are
   * the workers at the far ends of the links that block this worker. Only subclasses use
   * `_neighbours`.
   */
  silent(collective: number, _neighbours: readonly number[]): readonly number[] {
    const workers = Array.from({ length: this.#layout.workers }, (_, worker) => worker);
    return workers.filter((worker) => {
      const line = workerLine(this.#layout, worker) / 4;
      if (worker === this.#worker || this.#read(line + finished) > collective) return false;
      return this.#read(line + started) <= collective || this.#read(line + waiting) === 0;
    });
  }

  /** Throws `link-timeout` if the master has ended all waits. */
  check(): void {
    if (this.#read(this.#abort) === 0) return;
    throw new PodError('link-timeout', `Cloud TPU ${this.#worker}: all-reduce ended by the master`);
  }

  #read(word: number): number {
    return Atomics.load(this.#words, word);
  }
}

/**
 * Ends all waits of all workers at once: each wait throws PodError `link-timeout`. Called by the
 * master.
 */
export function abortFabric(memory: WebAssembly.Memory, layout: FabricLayout): void {
  const words = new Int32Array(memory.buffer);
  Atomics.store(words, sharedLine(layout) / 4, 1);
  for (let worker = 0; worker < layout.workers; worker++) wake(words, layout, worker);
}

function wake(words: Int32Array, layout: FabricLayout, worker: number): void {
  const word = workerLine(layout, worker) / 4 + bell;
  if (Atomics.compareExchange(words, word, asleep, awake) === asleep) Atomics.notify(words, word);
}
