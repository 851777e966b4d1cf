import { assert, at } from '../numerics/assert.ts';
import { PodError } from '../numerics/error.ts';

/** What a queue holds for one Cloud TPU. */
export interface InfeedGeometry {
  /** Number of the Cloud TPU, for messages. */
  readonly tpu: number;
  /** Steps that may lie ready or in use at a time; 2 lets one be filled while one is read. */
  readonly depth: number;
  /** Samples of one step: replicas of the Cloud TPU × per-replica batch. */
  readonly samples: number;
  /** f32 elements of one sample. */
  readonly elements: number;
}

/** Bytes of shared memory that a queue takes. */
export function infeedBytes(geometry: InfeedGeometry): number {
  return lineBytes * (1 + geometry.depth) + geometry.depth * slotBytes(geometry);
}

/**
 * The way from a loader's thread to one Cloud TPU: `depth` slots in shared memory, each with
 * images f32[samples, elements] and then labels s32[samples] of one step. Both sides construct a
 * queue over the same zeroed region, and go through the steps 0, 1, 2, … of the queue:
 *
 *     loader     produce(step) ▶ write images(step), labels(step) ▶ publish(step)
 *     consumer   consume(step) ▶ read at the byte offset           ▶ release(step)
 *
 * Step s uses slot s mod depth, in turn ⌊s / depth⌋. The slot's word is 2·turn while it is free
 * for that turn, 2·turn + 1 while it is full; so one word tells either side all it needs.
 */
export class InfeedQueue {
  readonly geometry: InfeedGeometry;
  readonly #control: Int32Array;
  readonly #slots: readonly Slot[];

  /** `byteOffset` is a multiple of 64; the region has {@link infeedBytes} bytes. */
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
   * Waits until the slot of `step` is free, `timeoutMs` at most; true when it is, false when time
   * ran out or the queue was stopped.
   */
  produce(step: number, timeoutMs: number): boolean {
    return this.#await(step, free(this.#turn(step)), timeoutMs);
  }

  /** The images of a step that `produce` or `consume` gave: f32[samples · elements]. */
  images(step: number): Float32Array {
    return this.#slot(step).images;
  }

  /** The labels of a step that `produce` or `consume` gave: s32[samples]. */
  labels(step: number): Int32Array {
    return this.#slot(step).labels;
  }

  /** Hands a filled slot to the consumer. */
  publish(step: number): void {
    const turn = this.#turn(step);
    this.#advance(step, free(turn), full(turn));
  }

  /**
   * Waits for what `loader` makes of `step`; returns the byte offset of the images in the buffer
   * (the labels follow them), or `undefined` when the queue was stopped.
   *
   * @throws PodError `worker-silent`, naming the loader, when nothing came within `timeoutMs`.
   */
  consume(step: number, timeoutMs: number, loader: string): number | undefined {
    if (this.#await(step, full(this.#turn(step)), timeoutMs)) return this.#slot(step).byteOffset;
    if (this.stopped) return undefined;
    const { tpu } = this.geometry;
    throw new PodError(
      'worker-silent',
      `${loader}: expected the infeed of step ${step} for Cloud TPU ${tpu}, ` +
        `found nothing for ${timeoutMs} ms`,
    );
  }

  /** Gives the slot back to the loader. */
  release(step: number): void {
    const turn = this.#turn(step);
    this.#advance(step, full(turn), free(turn + 1));
  }

  /** Ends every wait on this queue, now and later. */
  stop(): void {
    Atomics.store(this.#control, stopWord, 1);
    for (let slot = 0; slot < this.#slots.length; slot++) {
      Atomics.notify(this.#control, wordOf(slot));
    }
  }

  get stopped(): boolean {
    return Atomics.load(this.#control, stopWord) !== 0;
  }

  /** Makes the queue new: empty, from step 0. Only while nobody else uses it. */
  reset(): void {
    this.#control.fill(0);
  }

  /**
   * Waits until the word of a step is `wanted`. Waits in slices, because a stop may fall between
   * the look at the flag and the wait. Only slices that ran out count: a word that changes is
   * progress, and changes at most once before it is `wanted`.
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

/** One slot's place and views. */
interface Slot {
  readonly byteOffset: number;
  readonly images: Float32Array;
  readonly labels: Int32Array;
}

/** A cache line: what two threads write lies in two of them. */
const lineBytes = 64;
const lineWords = lineBytes / 4;

/** The first line holds the stop flag, then comes a line for each slot's word. */
const stopWord = 0;

/** How long a wait may miss a stop. */
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
