import { queueDepth } from '../../src/fabric/fabric-memory.ts';
import { assert } from '../../src/numerics/assert.ts';

/**
 * A ring of bytes into which the frames of one queue go, one after another and each in one piece.
 * Sender and receiver both keep one and make the same moves, so that the sender knows what room
 * there is without asking: it is told only how many frames have been given back.
 */
export class Window {
  readonly #bytes: number;
  /** Bytes ever used and ever given back, the unused ends of the ring counted. */
  #head = 0;
  #tail = 0;
  /** Frames ever put in and given back, modulo 2^32. */
  #put = 0;
  #back = 0;
  /** `#head` after each frame that is in it. */
  readonly #ends: Float64Array = new Float64Array(queueDepth);

  constructor(bytes: number) {
    assert(bytes > 0 && bytes % frameAlign === 0, `a window of ${bytes} bytes`);
    this.#bytes = bytes;
  }

  /** Frames in it. */
  get frames(): number {
    return (this.#put - this.#back) >>> 0;
  }

  /** Bytes in it. */
  get used(): number {
    return this.#head - this.#tail;
  }

  /** Frames ever given back, modulo 2^32. */
  get back(): number {
    return this.#back >>> 0;
  }

  hasRoom(bytes: number): boolean {
    return this.frames < queueDepth && this.#endOf(bytes) - this.#tail <= this.#bytes;
  }

  /** Puts a frame in, for which there is room, and gives the byte in the ring where it starts. */
  put(bytes: number): number {
    assert(this.hasRoom(bytes), `no room for ${bytes} bytes`);
    const end = this.#endOf(bytes);
    const start = (end - aligned(bytes)) % this.#bytes;
    this.#ends[this.#slot(this.#put)] = end;
    this.#head = end;
    this.#put = (this.#put + 1) >>> 0;
    return start;
  }

  /** Gives frames back until `count` (modulo 2^32) ever were; false when there were not so many. */
  giveBack(count: number): boolean {
    const more = (count - this.#back) >>> 0;
    if (more > this.frames) return false;
    if (more === 0) return true;
    this.#back = count >>> 0;
    this.#tail = this.#ends[this.#slot(count - 1)] ?? 0;
    return true;
  }

  /** The fewest frames, of those in it, that must come back for it to be no more than half full. */
  get crowded(): number {
    const half = this.#head - this.#bytes / 2;
    let count = Math.max(0, this.frames - queueDepth / 2);
    while (count < this.frames && this.#tailAfter(count) < half) count++;
    return count;
  }

  #tailAfter(count: number): number {
    return count === 0 ? this.#tail : (this.#ends[this.#slot(this.#back + count - 1)] ?? 0);
  }

  #endOf(bytes: number): number {
    const size = aligned(bytes);
    const left = this.#bytes - (this.#head % this.#bytes);
    return this.#head + size + (size <= left ? 0 : left);
  }

  #slot(frame: number): number {
    return (frame >>> 0) % queueDepth;
  }
}

/** Frames start on multiples of this many bytes. */
export const frameAlign = 16;

function aligned(bytes: number): number {
  return Math.ceil(bytes / frameAlign) * frameAlign;
}
