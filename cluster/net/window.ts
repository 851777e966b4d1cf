import { assert } from '../../src/numerics/assert.ts';

/**
 * How many frames of one queue are under way. Sender and receiver both keep one, so that the sender
 * knows what room there is without asking: it is told only how many frames have been given back.
 * Counts of frames are modulo 2^32.
 */
export class Window {
  readonly #size: number;
  /** Frames ever put in and given back. */
  #put = 0;
  #back = 0;

  constructor(size: number) {
    assert(Number.isInteger(size) && size > 0, `a window of ${size} frames`);
    this.#size = size;
  }

  /** Frames in it. */
  get frames(): number {
    return (this.#put - this.#back) >>> 0;
  }

  /** Frames ever given back. */
  get back(): number {
    return this.#back;
  }

  get hasRoom(): boolean {
    return this.frames < this.#size;
  }

  put(): void {
    assert(this.hasRoom, 'no room for a frame');
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
