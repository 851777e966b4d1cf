import { assert } from '../numerics/assert.ts';
import { type ErrorCode, messageOf, PodError } from '../numerics/error.ts';
import type { Collectives } from './collectives.ts';
import { Doorbell } from './doorbell.ts';

/**
 * Layout of the memory that a worker's thread shares with its engine. The engine is a second
 * thread, which runs the worker's all-reduces while the worker computes. On the hardware, a network
 * engine beside the cores does this. The worker starts the all-reduce of a bucket of gradients and
 * goes on computing. When it needs the sum, it sleeps until the sum is complete.
 */
export interface EngineLayout {
  /** Byte address, a multiple of 128. */
  readonly base: number;
  readonly bytes: number;
  /** Largest number of all-reduces under way at once: the number of buckets of all programs. */
  readonly capacity: number;
}

/**
 * Offsets in the layout, in 32-bit words:
 *
 * - `started`: the number of all-reduces that the worker has started. The worker writes it.
 * - `late`: 1 + the index of a bucket for which the worker has waited too long; 0 if there is none.
 *   The worker writes it.
 * - `bell`: the word on which the engine sleeps.
 * - `fault`: the length, in bytes, of the JSON text of the error that stopped the engine; 0 while
 *   there is no error. The engine writes it.
 * - `starts`: a circular buffer with the indices of the started buckets, in the order of their
 *   starts. The JSON text of the error comes after this buffer.
 */
const words = { started: 0, late: 1, bell: 32, fault: 64, starts: 96 } as const;
/**
 * `faultBytesMax` is the space, in bytes, for the JSON text of an error. The message of the error
 * is cut to `messageLengthMax` characters. JSON needs at most 6 bytes for a character, so the text
 * always fits into the space.
 */
const faultBytesMax = 4096;
const messageLengthMax = 640;
const awake = 0;
const asleep = 1;

export function layOutEngine(base: number, buckets: number): EngineLayout {
  const capacity = Math.max(1, buckets);
  const bytes = Math.ceil((4 * (words.starts + capacity) + faultBytesMax) / 128) * 128;
  return { base, bytes, capacity };
}

/**
 * Sets the whole memory of the layout to zero. Must run before the workers of a generation start,
 * while neither the worker nor the engine uses the memory.
 */
export function resetEngine(memory: WebAssembly.Memory, { base, bytes }: EngineLayout): void {
  new Uint8Array(memory.buffer, base, bytes).fill(0);
}

interface Fault {
  /**
   * Code of the error if it is a `PodError`. Any other error is a defect of this program, and its
   * code is the empty string.
   */
  readonly code: ErrorCode | '';
  readonly message: string;
}

/**
 * The bell of an engine: the word of shared memory on which the engine's thread sleeps. This word
 * is element `index` of `words`.
 */
export interface EngineBell {
  readonly words: Int32Array;
  readonly index: number;
}

/**
 * The worker's side of the engine: starts the all-reduces of buckets and waits for the sums. Has
 * the methods `start`, `progress`, `isDone`, `finish` and `takeWaits` of `Collectives`.
 */
export class EngineClient {
  readonly #words: Int32Array;
  readonly #layout: EngineLayout;
  readonly #base: number;
  readonly #doorbell: Doorbell;
  readonly #memory: WebAssembly.Memory;
  readonly #now: () => number;
  /**
   * For each bucket: the serial number of its newest all-reduce; 0 before its first. The serial
   * numbers count the all-reduces that this worker has started, from 1 on.
   */
  readonly #startOf: Uint32Array;
  #started = 0;

  /** `now` returns the time in ms. */
  constructor(
    memory: WebAssembly.Memory,
    layout: EngineLayout,
    doorbell: Doorbell,
    now: () => number,
  ) {
    this.#memory = memory;
    this.#words = new Int32Array(memory.buffer);
    this.#layout = layout;
    this.#base = layout.base / 4;
    this.#doorbell = doorbell;
    this.#now = now;
    this.#startOf = new Uint32Array(layout.capacity);
  }

  start(bucket: number): void {
    assert(this.#startOf[bucket] !== undefined, `bucket ${bucket} of ${this.#startOf.length}`);
    assert(this.isDone(bucket), `bucket ${bucket} started before it was done`);
    const slot = this.#started % this.#layout.capacity;
    this.#words[this.#base + words.starts + slot] = bucket;
    this.#started++;
    this.#startOf[bucket] = this.#started;
    Atomics.store(this.#words, this.#base + words.started, this.#started);
    this.#ring();
  }

  /**
   * Returns false, because the engine makes progress without the worker. Throws the error that
   * stopped the engine, if the engine has stopped.
   */
  progress(): boolean {
    this.#check();
    return false;
  }

  isDone(bucket: number): boolean {
    return (this.#startOf[bucket] ?? 0) <= this.#doorbell.finished;
  }

  /**
   * Sleeps until the bucket is done. If an error has stopped the engine, throws that error. Throws
   * PodError `link-timeout` when the time `deadline` (in ms on the clock `now`) has passed, or when
   * the master ends all waits.
   */
  finish(bucket: number, deadline: number): void {
    this.#check();
    if (this.isDone(bucket)) return;
    this.#doorbell.publishWaiting(true);
    let until = deadline;
    while (!this.isDone(bucket)) {
      const left = until - this.#now();
      if (left <= 0) until = this.#askWhyLate(bucket);
      this.#sleep(bucket, left);
    }
    this.#doorbell.publishWaiting(false);
    Atomics.store(this.#words, this.#base + words.late, 0);
  }

  /** Returns no entries: only the thread of the engine knows how long its lanes waited. */
  takeWaits(): number[] {
    return [];
  }

  #sleep(bucket: number, timeoutMs: number): void {
    this.#doorbell.prepare();
    this.#check();
    this.#doorbell.check();
    if (this.isDone(bucket)) this.#doorbell.stayAwake();
    else this.#doorbell.sleep(Math.max(1, timeoutMs));
  }

  /**
   * Asks the engine why the given bucket is late. The engine answers with an error, which it writes
   * to the shared memory. Returns the time, in ms on the clock `now`, by which the answer must
   * arrive. If the engine was asked before and has not answered, throws PodError `link-timeout`.
   */
  #askWhyLate(bucket: number): number {
    if (Atomics.exchange(this.#words, this.#base + words.late, bucket + 1) !== 0) {
      throw new PodError(
        'link-timeout',
        `all-reduce of bucket ${bucket}: the all-reduce engine of this Cloud TPU does not respond`,
      );
    }
    this.#ring();
    return this.#now() + answerMsMax;
  }

  #ring(): void {
    const bell = this.#base + words.bell;
    if (Atomics.compareExchange(this.#words, bell, asleep, awake) === asleep) {
      Atomics.notify(this.#words, bell);
    }
  }

  #check(): void {
    const bytes = Atomics.load(this.#words, this.#base + words.fault);
    if (bytes === 0) return;
    const { base, capacity } = this.#layout;
    const text = Buffer.from(this.#memory.buffer, base + 4 * (words.starts + capacity), bytes);
    const { code, message } = JSON.parse(text.toString('utf8')) as Fault;
    throw code === '' ? new Error(message) : new PodError(code, message);
  }
}

/** Longest time, in ms, that the engine may take to report why a bucket is late. */
const answerMsMax = 1000;

/**
 * The engine's side of the shared memory: runs the all-reduces that the worker has started, and
 * reports errors to the worker.
 */
export class Engine {
  readonly #words: Int32Array;
  readonly #layout: EngineLayout;
  readonly #base: number;
  readonly #memory: WebAssembly.Memory;
  readonly #allReduce: Collectives;
  readonly #doorbell: Doorbell;
  #taken = 0;
  #hasFailed = false;

  /** `doorbell` must be the {@link EngineDoorbell} that `allReduce` was made with. */
  constructor(
    memory: WebAssembly.Memory,
    layout: EngineLayout,
    allReduce: Collectives,
    doorbell: Doorbell,
  ) {
    this.#memory = memory;
    this.#words = new Int32Array(memory.buffer);
    this.#layout = layout;
    this.#base = layout.base / 4;
    this.#allReduce = allReduce;
    this.#doorbell = doorbell;
  }

  /** The bell on which the engine's thread sleeps. */
  get bell(): EngineBell {
    return { words: this.#words, index: this.#base + words.bell };
  }

  /**
   * Sets the engine's bell to asleep. Work that arrived before this call does not wake the engine.
   * So the engine's thread must look for work once more before it sleeps.
   */
  prepare(): void {
    Atomics.store(this.#words, this.#base + words.bell, asleep);
  }

  /**
   * Starts the all-reduces that the worker has requested since the last call, and makes every hop
   * that is possible now. An error stops the engine and is reported to the worker.
   */
  progress(): void {
    if (this.#hasFailed) return;
    try {
      this.#takeStarts();
      this.#allReduce.progress();
      this.#reportLate();
    } catch (error) {
      this.fail(error);
    }
  }

  /**
   * Stops the engine and reports `error` to the worker. The worker's calls of `progress` and
   * `finish` then throw the error.
   */
  fail(error: unknown): void {
    if (this.#hasFailed) return;
    this.#hasFailed = true;
    const code = error instanceof PodError ? error.code : '';
    const fault: Fault = { code, message: messageOf(error).slice(0, messageLengthMax) };
    const { base, capacity } = this.#layout;
    const room = Buffer.from(
      this.#memory.buffer,
      base + 4 * (words.starts + capacity),
      faultBytesMax,
    );
    const bytes = room.write(JSON.stringify(fault), 'utf8');
    Atomics.store(this.#words, this.#base + words.fault, bytes);
    this.#doorbell.wakeOwn();
  }

  #takeStarts(): void {
    const started = Atomics.load(this.#words, this.#base + words.started);
    while (this.#taken !== started) {
      const slot = this.#taken % this.#layout.capacity;
      this.#allReduce.start(this.#words[this.#base + words.starts + slot] ?? 0);
      this.#taken++;
    }
  }

  #reportLate(): void {
    const late = Atomics.load(this.#words, this.#base + words.late);
    if (late > 0 && !this.#allReduce.isDone(late - 1)) throw this.#allReduce.timeout(late - 1);
  }
}

/**
 * Doorbell of an engine, the thread that runs a worker's all-reduces. When an all-reduce finishes,
 * wakes the worker's own thread, which may be waiting for the sum.
 */
export class EngineDoorbell extends Doorbell {
  override publishFinished(count: number): void {
    super.publishFinished(count);
    this.wakeOwn();
  }

  /**
   * Returns all neighbours that block this worker. The engine does not see the progress of other
   * Cloud TPUs, so it cannot tell which of these neighbours is to blame.
   */
  override silent(_collective: number, neighbours: readonly number[]): readonly number[] {
    return neighbours;
  }
}
