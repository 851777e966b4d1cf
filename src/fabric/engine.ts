import { assert } from '../numerics/assert.ts';
import { type ErrorCode, PodError } from '../numerics/error.ts';
import type { AllReduce } from './all-reduce.ts';
import { Doorbell } from './doorbell.ts';

/**
 * Where a worker's thread and the thread that runs its all-reduces meet in the shared memory. As on
 * the hardware the network has an engine of its own beside the cores, which move on meanwhile: a
 * worker says what is to be summed and sleeps until it is.
 */
export interface EngineLayout {
  /** Byte address, 128-aligned. */
  readonly base: number;
  readonly bytes: number;
  /** All-reduces that may be under way at once: buckets of all programs. */
  readonly capacity: number;
}

/**
 * Words: a line that the worker writes (all-reduces started; the bucket that it has waited for too
 * long, from 1), the bell on which the engine sleeps, a line that the engine writes (bytes of what
 * has gone wrong, 0 while nothing has), buckets in the order of their starts, and that text.
 */
const words = { started: 0, late: 1, bell: 32, fault: 64, starts: 96 } as const;
/** A message of so many characters is within them, however it is escaped. */
const faultBytesMax = 4096;
const messageLengthMax = 640;
const awake = 0;
const asleep = 1;

export function layOutEngine(base: number, buckets: number): EngineLayout {
  const capacity = Math.max(1, buckets);
  const bytes = Math.ceil((4 * (words.starts + capacity) + faultBytesMax) / 128) * 128;
  return { base, bytes, capacity };
}

/** Before each membership, while neither thread is in one. */
export function resetEngine(memory: WebAssembly.Memory, { base, bytes }: EngineLayout): void {
  new Uint8Array(memory.buffer, base, bytes).fill(0);
}

interface Fault {
  /** The code of a `PodError`; empty for a mistake of this program. */
  readonly code: ErrorCode | '';
  readonly message: string;
}

/** Element `index` of `words`: the word in memory on which the thread of the engine sleeps. */
export interface EngineBell {
  readonly words: Int32Array;
  readonly index: number;
}

/** The worker's side: starts buckets and waits for them, as `AllReduce` does. */
export class EngineClient {
  readonly #words: Int32Array;
  readonly #layout: EngineLayout;
  readonly #base: number;
  readonly #doorbell: Doorbell;
  readonly #memory: WebAssembly.Memory;
  readonly #now: () => number;
  /** Number of the last start of each bucket, from 1; 0 before. */
  readonly #startOf: Uint32Array;
  #started = 0;

  /** `now` gives ms. */
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

  /** The engine needs no help. Throws what has gone wrong there. */
  progress(): boolean {
    this.#check();
    return false;
  }

  isDone(bucket: number): boolean {
    return (this.#startOf[bucket] ?? 0) <= this.#doorbell.finished;
  }

  /**
   * Sleeps until the bucket is done. Throws what goes wrong in the engine; `link-timeout` when
   * `deadline` (as `now()` counts) passes first, or when the master ends all waits.
   */
  finish(bucket: number, deadline: number): void {
    this.#check();
    if (this.isDone(bucket)) return;
    this.#doorbell.publishWaiting(true);
    let until = deadline;
    while (!this.isDone(bucket)) {
      const left = until - this.#now();
      if (left <= 0) until = this.#complain(bucket);
      this.#sleep(bucket, left);
    }
    this.#doorbell.publishWaiting(false);
    Atomics.store(this.#words, this.#base + words.late, 0);
  }

  #sleep(bucket: number, timeoutMs: number): void {
    this.#doorbell.prepare();
    this.#check();
    this.#doorbell.check();
    if (this.isDone(bucket)) this.#doorbell.stayAwake();
    else this.#doorbell.sleep(Math.max(1, timeoutMs));
  }

  /** Asks the engine what a late bucket waits for, which it answers with a fault. */
  #complain(bucket: number): number {
    if (Atomics.exchange(this.#words, this.#base + words.late, bucket + 1) !== 0) {
      throw new PodError('link-timeout', `all-reduce of bucket ${bucket}: its engine stands still`);
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

/** How long the engine may take to say why a bucket is late, in ms. */
const answerMsMax = 1000;

/** The engine's side: does what the worker has asked for, and tells it. */
export class Engine {
  readonly #words: Int32Array;
  readonly #layout: EngineLayout;
  readonly #base: number;
  readonly #memory: WebAssembly.Memory;
  readonly #allReduce: AllReduce;
  readonly #doorbell: Doorbell;
  #taken = 0;
  #hasFailed = false;

  /** `doorbell` is that of `allReduce`: an {@link EngineDoorbell}. */
  constructor(
    memory: WebAssembly.Memory,
    layout: EngineLayout,
    allReduce: AllReduce,
    doorbell: Doorbell,
  ) {
    this.#memory = memory;
    this.#words = new Int32Array(memory.buffer);
    this.#layout = layout;
    this.#base = layout.base / 4;
    this.#allReduce = allReduce;
    this.#doorbell = doorbell;
  }

  /** On which its thread sleeps. */
  get bell(): EngineBell {
    return { words: this.#words, index: this.#base + words.bell };
  }

  /** Says that its thread is about to sleep unless it still finds something to do. */
  prepare(): void {
    Atomics.store(this.#words, this.#base + words.bell, asleep);
  }

  /** Does all that can be done now. */
  progress(): void {
    if (this.#hasFailed) return;
    try {
      this.#takeStarts();
      this.#allReduce.progress();
      this.#answer();
    } catch (error) {
      this.fail(error);
    }
  }

  /** Ends the worker's waits with what has gone wrong; nothing is done any more. */
  fail(error: unknown): void {
    if (this.#hasFailed) return;
    this.#hasFailed = true;
    const code = error instanceof PodError ? error.code : '';
    const message = error instanceof Error ? error.message : String(error);
    const fault: Fault = { code, message: message.slice(0, messageLengthMax) };
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

  #answer(): void {
    const late = Atomics.load(this.#words, this.#base + words.late);
    if (late > 0 && !this.#allReduce.isDone(late - 1)) throw this.#allReduce.timeout(late - 1);
  }
}

/** The doorbell of all-reduces whose worker sleeps on another thread until they are done. */
export class EngineDoorbell extends Doorbell {
  override publishFinished(count: number): void {
    super.publishFinished(count);
    this.wakeOwn();
  }

  /** What others do cannot be seen from here: only who has not sent. */
  override silent(_collective: number, neighbours: readonly number[]): readonly number[] {
    return neighbours;
  }
}
