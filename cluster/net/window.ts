import { assert } from '../../src/numerics/assert.ts';

/**
 * Counts the frames of one queue that were sent and not yet released. The sender and the receiver
 * each keep a window. So the sender knows without asking how much room is left: the receiver
 * reports only how many frames it has ever released. Counts of frames are modulo 2^32.
 */
export class Window {
  readonly #capacity: number;
  /** Most frames that the sender may have sent and not seen released. */
  #size: number;
  /** Number of frames ever put in (`put`) and ever released (`back`). */
  #put = 0;
  #back = 0;

  constructor(size: number) {
    assert(Number.isInteger(size) && size > 0, `a window of ${size} frames`);
    this.#capacity = size;
    this.#size = size;
  }

  /**
   * Limits the sender to `size` unreleased frames from now on. Frames that were sent before and
   * exceed `size` stay valid.
   */
  narrow(size: number): void {
    assert(Number.isInteger(size) && size > 0 && size <= this.#capacity, `${size} frames`);
    this.#size = size;
  }

  /** Number of frames ever put in, modulo 2^32. */
  get count(): number {
    return this.#put;
  }

  /** Number of frames put in and not yet released. */
  get frames(): number {
    return (this.#put - this.#back) >>> 0;
  }

  /** Number of frames ever released, modulo 2^32. */
  get back(): number {
    return this.#back;
  }

  /**
   * True if another frame fits into the window in its present size, which {@link narrow} may have
   * reduced. The sender obeys this limit.
   */
  get hasRoom(): boolean {
    return this.frames < this.#size;
  }

  /**
   * True if no other frame fits into the window in its original size. The receiver checks this
   * limit, because frames sent before {@link narrow} may still be on their way.
   */
  get isFull(): boolean {
    return this.frames >= this.#capacity;
  }

  put(): void {
    assert(!this.isFull, 'no room for a frame');
    this.#put = (this.#put + 1) >>> 0;
  }

  /**
   * Records that `count` frames were ever released. Returns false if fewer frames were put in. A
   * count lower than an earlier count changes nothing.
   */
  release(count: number): boolean {
    if (((this.#put - count) | 0) < 0) return false;
    if (((count - this.#back) | 0) > 0) this.#back = count >>> 0;
    return true;
  }

  /**
   * Number of frames in the window that must be released before a quarter of the window is free.
   */
  get releasesNeeded(): number {
    return Math.max(0, this.frames - this.#size + Math.max(1, this.#size >> 2));
  }
}
