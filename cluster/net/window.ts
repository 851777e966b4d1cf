import { assert } from '../../src/numerics/assert.ts';

/**
 * How many frames of one queue are under way. Sender and receiver both keep one, so that the sender
 * knows what room there is without asking: it is told only how many frames have been given back.
 * Counts of frames are modulo 2^32.
 */
export class Window {
  readonly #capacity: number;
  /** How many the sender has under way at most. */
  #size: number;
  /** Frames ever put in and given back. */
  #put = 0;
  #back = 0;

  constructor(size: number) {
    assert(Number.isInteger(size) && size > 0, `a window of ${size} frames`);
    this.#capacity = size;
    this.#size = size;
  }

  /** From now on the sender puts no more than `size` in, once those beyond have come back. */
  narrow(size: number): void {
    assert(Number.isInteger(size) && size > 0 && size <= this.#capacity, `${size} frames`);
    this.#size = size;
  }

  /** Frames ever put in. */
  get count(): number {
    return this.#put;
  }

  /** Frames in it. */
  get frames(): number {
    return (this.#put - this.#back) >>> 0;
  }

  /** Frames ever given back. */
  get back(): number {
    return this.#back;
  }

  /** For another, as the sender keeps it. */
  get hasRoom(): boolean {
    return this.frames < this.#size;
  }

  /** As the receiver keeps it: what was put in before it was narrowed may still be on its way. */
  get isFull(): boolean {
    return this.frames >= this.#capacity;
  }

  put(): void {
    assert(!this.isFull, 'no room for a frame');
    this.#put = (this.#put + 1) >>> 0;
  }

  /**
   * Gives frames back until `count` ever were; false when there were not so many. A count that was
   * overtaken by a later one changes nothing.
   */
  giveBack(count: number): boolean {
    if (((this.#put - count) | 0) < 0) return false;
    if (((count - this.#back) | 0) > 0) this.#back = count >>> 0;
    return true;
  }

  /** How many frames, of those in it, must come back for a quarter of it to be empty. */
  get crowded(): number {
    return Math.max(0, this.frames - this.#size + Math.max(1, this.#size >> 2));
  }
}
