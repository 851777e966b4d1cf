import { assert, at } from '../numerics/assert.ts';
import { PodError } from '../numerics/error.ts';

/** Dimensions of the infeed queue of one Cloud TPU. */
export interface InfeedGeometry {
  /** Index of the Cloud TPU, for messages. */
  readonly tpu: number;
  /**
   * How many slots the queue has. Each slot holds the samples of one step. With 2 slots, the loader
   * fills one slot while the Cloud TPU reads the other slot.
   */
  readonly depth: number;
  /** How many samples a step has: replicas of the Cloud TPU × per-replica batch. */
  readonly samples: number;
  /** How many f32 elements a sample has. */
  readonly elements: number;
}

/** Returns how many bytes of shared memory an infeed queue takes. */
export function infeedBytes(geometry: InfeedGeometry): number {
  return lineBytes * (1 + geometry.depth) + geometry.depth * slotBytes(geometry);
}

/**
 * Queue from a loader's thread to one Cloud TPU (the consumer): `depth` slots in shared memory. A
 * slot has the images f32[samples, elements] of one step, followed by the labels s32[samples].
 * Loader and consumer each construct an `InfeedQueue` over the same region of memory, which must be
 * zeroed before. Both go through the steps 0, 1, 2, …:
 *
 *     loader     produce(step) ▶ write images(step), labels(step) ▶ publish(step)
 *     consumer   consume(step) ▶ read at the byte offset           ▶ release(step)
 *
 * Step s uses slot s mod depth. The number turn = ⌊s / depth⌋ counts the earlier steps that used
 * the same slot. Each slot has a state word in shared memory. The word is 2·turn if the slot is
 * free for step s, and 2·turn + 1 if the slot holds the samples of step s.
 */
export class InfeedQueue {
  readonly geometry: InfeedGeometry;
  readonly #control: Int32Array;
  readonly #slots: readonly Slot[];

  /**
   * Makes a view of the queue that begins at `byteOffset` of `buffer`. The queue takes {@link
   * infeedBytes} bytes, and `byteOffset` must be a multiple of 64.
   */
  constructor(buffer: ArrayBufferLike, byteOffset: number, geometry: InfeedGeometry) {
    const bytes = infeedBytes(geometry);
    assert(buffer instanceof SharedArrayBuffer, 'an infeed queue lies in shared memory');
    assert(byteOffset % lineBytes === 0, `infeed at ${byteOffset}, not a multiple of ${lineBytes}`);
    assert(byteOffset + bytes <= buffer.byteLength, `infeed of ${bytes} bytes at ${byteOffset}`);
    this.geometry = geometry;
    const words = (1 + geometry.depth) * lineWords;
    this.#control = new Int32Array(buffer, byteOffset, words);
    this.#slots = Array.from({ length: geometry.depth }, (_, slot) =>
      slotAt(buffer, byteOffset + words * 4 + slot * slotBytes(geometry), geometry),
    );
  }

  /**
   * Waits at most `timeoutMs` ms until the slot of `step` is free. Returns true if the slot is
   * free, false if the time ran out or the queue was stopped.
   */
  produce(step: number, timeoutMs: number): boolean {
    return this.#await(step, free(this.#turn(step)), timeoutMs);
  }

  /**
   * Images of a step, f32[samples · elements]. Valid after `produce` or `consume` of the step
   * succeeded.
   */
  images(step: number): Float32Array {
    return this.#slot(step).images;
  }

  /** Labels of a step, s32[samples]. Valid after `produce` or `consume` of the step succeeded. */
  labels(step: number): Int32Array {
    return this.#slot(step).labels;
  }

  /** Hands the filled slot of `step` to the consumer. */
  publish(step: number): void {
    const turn = this.#turn(step);
    this.#advance(step, free(turn), full(turn));
  }

  /**
   * Waits until the loader has published `step`. Returns the byte offset of the images in the
   * buffer (the labels follow the images), or `undefined` if the queue was stopped.
   *
   * @throws PodError `worker-silent`, naming the loader, if the loader published nothing within
   * `timeoutMs` ms.
   */
  consume(step: number, timeoutMs: number, loader: string): number | undefined {
    if (this.#await(step, full(this.#turn(step)), timeoutMs)) return this.#slot(step).byteOffset;
    if (this.stopped) return undefined;
    const { tpu } = this.geometry;
    throw new PodError(
      'worker-silent',
      `${loader}: expected the next infeed for Cloud TPU ${tpu}, ` +
        `found nothing for ${timeoutMs} ms`,
    );
  }

  /** Gives the slot of `step` back to the loader. */
  release(step: number): void {
    const turn = this.#turn(step);
    this.#advance(step, full(turn), free(turn + 1));
  }

  /**
   * Stops the queue. From then on, every wait on the queue ends within `sliceMsMax` ms, in all
   * threads.
   */
  stop(): void {
    Atomics.store(this.#control, stopWord, 1);
    for (let slot = 0; slot < this.#slots.length; slot++) {
      Atomics.notify(this.#control, wordOf(slot));
    }
  }

  get stopped(): boolean {
    return Atomics.load(this.#control, stopWord) !== 0;
  }

  /**
   * Makes the queue empty and starts again at step 0. Allowed only while no other thread uses the
   * queue.
   */
  reset(): void {
    this.#control.fill(0);
  }

  /**
   * Waits until the state word of the slot of `step` is `wanted`. Returns false if `timeoutMs` ms
   * have passed or the queue is stopped.
   *
   * A stop just before the thread falls asleep does not wake the thread. Therefore the thread
   * sleeps at most `sliceMsMax` ms at a time and checks the stop flag after each sleep. A sleep
   * that another thread ends early does not count towards `timeoutMs`.
   */
  #await(step: number, wanted: number, timeoutMs: number): boolean {
    const word = wordOf(step % this.geometry.depth);
    let remainingMs = timeoutMs;
    for (;;) {
      const now = Atomics.load(this.#control, word);
      if (this.stopped) return false;
      if (now === wanted) return true;
      assert(now < wanted, `infeed step ${step} waits for ${wanted}, and the slot is at ${now}`);
      if (remainingMs <= 0) return false;
      const sliceMs = Math.min(remainingMs, sliceMsMax);
      const outcome = Atomics.wait(this.#control, word, now, sliceMs);
      if (outcome === 'timed-out') remainingMs -= sliceMs;
    }
  }

  #advance(step: number, from: number, to: number): void {
    const word = wordOf(step % this.geometry.depth);
    const found = Atomics.compareExchange(this.#control, word, from, to);
    assert(found === from, `infeed step ${step} moves from ${from}, and the slot is at ${found}`);
    Atomics.notify(this.#control, word);
  }

  #turn(step: number): number {
    const turn = Math.floor(step / this.geometry.depth);
    assert(step >= 0 && turn < 2 ** 30, `infeed step ${step}`);
    return turn;
  }

  #slot(step: number): Slot {
    return at(this.#slots, step % this.geometry.depth);
  }
}

/** Position and views of one slot. */
interface Slot {
  readonly byteOffset: number;
  readonly images: Float32Array;
  readonly labels: Int32Array;
}

/**
 * Size of a cache line in bytes. The stop flag and the state word of each slot are in separate
 * cache lines, so threads that write different words do not slow each other down.
 */
const lineBytes = 64;
const lineWords = lineBytes / 4;

/**
 * Index of the stop flag among the control words. The flag is in the first cache line. The state
 * words of the slots follow, each in a cache line of its own.
 */
const stopWord = 0;

/** Longest time, in ms, before a waiting thread notices a stop. */
const sliceMsMax = 20;

function wordOf(slot: number): number {
  return (1 + slot) * lineWords;
}

function free(turn: number): number {
  return 2 * turn;
}

function full(turn: number): number {
  return 2 * turn + 1;
}

function slotBytes({ samples, elements }: InfeedGeometry): number {
  return Math.ceil((samples * (elements + 1) * 4) / lineBytes) * lineBytes;
}

function slotAt(
  buffer: SharedArrayBuffer,
  byteOffset: number,
  { samples, elements }: InfeedGeometry,
): Slot {
  return {
    byteOffset,
    images: new Float32Array(buffer, byteOffset, samples * elements),
    labels: new Int32Array(buffer, byteOffset + samples * elements * 4, samples),
  };
}
