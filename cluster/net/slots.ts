import { assert } from '../../src/numerics/assert.ts';

/**
 * Pool of slots, which are receive buffers of equal length for the payloads of frames. The slot
 * that was released last is taken next. So if frames are processed quickly, only a few slots are
 * used, and these slots stay in the processor's cache.
 */
export class Slots {
  readonly #base: number;
  readonly #end: number;
  readonly #free: Uint32Array;
  #count: number;

  /** Creates `count` slots of `bytes` bytes each, from byte address `base` on. */
  constructor(base: number, bytes: number, count: number) {
    this.#base = base;
    this.#end = base + bytes * count;
    this.#free = Uint32Array.from({ length: count }, (_, i) => base + bytes * (count - 1 - i));
    this.#count = count;
  }

  /** Takes a free slot and returns its byte address. At least one slot must be free. */
  take(): number {
    assert(this.#count > 0, 'no slot is free');
    this.#count--;
    return this.#free[this.#count] ?? 0;
  }

  /** Makes the slot at byte address `address` free again. */
  give(address: number): void {
    assert(this.#count < this.#free.length, 'a slot given back twice');
    this.#free[this.#count] = address;
    this.#count++;
  }

  /** True if `address` lies in one of the slots. */
  has(address: number): boolean {
    return address >= this.#base && address < this.#end;
  }
}
