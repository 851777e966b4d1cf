import { assert } from '../../src/numerics/assert.ts';

/**
 * Limits how many frames of one queue are sent and not yet released by the receiver. Sender and
 * receiver each have a window object. The receiver reports how many frames it has released since
 * the queue was created. From this number the sender computes how many more frames it may send. All
 * counts are modulo 2^32.
 */
export class Window {
  readonly #capacity: number;
  /**
   * Largest number of frames that may be sent and not yet released. Equals `#capacity` until
   * {@link narrow} reduces it.
   */
  #size: number;
  /**
   * How many frames were put into the window (`#put`), and how many were released (`#back`), both
   * since the window was created.
   */
  #put = 0;
  #back = 0;

  constructor(size: number) {
    assert(Number.isInteger(size) && size > 0, `a window of ${size} frames`);
    this.#capacity = size;
    this.#size = size;
  }

  /**
   * Sets the size of the window. From now on the sender may send a frame only while fewer than
   * `size` sent frames are unreleased. If more frames are unreleased at the time of this call, they
   * stay valid.
   */
  narrow(size: number): void {
    assert(Number.isInteger(size) && size > 0 && size <= this.#capacity, `${size} frames`);
    this.#size = size;
  }

  /** How many frames were put into the window since the window was created, modulo 2^32. */
  get count(): number {
    return this.#put;
  }

  /** How many frames were put into the window and have not been released. */
  get frames(): number {
    return (this.#put - this.#back) >>> 0;
  }

  /** How many frames were released since the window was created, modulo 2^32. */
  get back(): number {
    return this.#back;
  }

  /**
   * True if the sender may send another frame. The limit is the size set by {@link narrow}, or the
   * original size if `narrow` was not called.
   */
  get hasRoom(): boolean {
    return this.frames < this.#size;
  }

  /**
   * True if the window holds as many frames as its original size allows. The receiver checks this
   * limit even after a call of {@link narrow}, because the sender may have sent more frames before
   * its own window was narrowed.
   */
  get isFull(): boolean {
    return this.frames >= this.#capacity;
  }

  put(): void {
    assert(!this.isFull, 'no room for a frame');
    this.#put = (this.#put + 1) >>> 0;
  }

  /**
   * Records that `count` frames (modulo 2^32) have been released since the window was created.
   * Returns false if fewer frames were put into the window. A count lower than an earlier count has
   * no effect.
   */
  release(count: number): boolean {
    if (((this.#put - count) | 0) < 0) return false;
    if (((count - this.#back) | 0) > 0) this.#back = count >>> 0;
    return true;
  }

  /**
   * How many more frames must be released until a quarter of the window is free; 0 if a quarter is
   * free already.
   */
  get releasesNeeded(): number {
    return Math.max(0, this.frames - this.#size + Math.max(1, this.#size >> 2));
  }
}
