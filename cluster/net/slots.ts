import { assert } from '../../src/numerics/assert.ts';

/**
 * Equal pieces of memory into which frames are received, used last when given back last: so few are
 * ever touched while frames are worked on as they come, and those few stay in the cache.
 */
export class Slots {
  readonly #base: number;
  readonly #end: number;
  readonly #free: Uint32Array;
  #count: number;

  /** `count` slots of `bytes` from byte address `base` on. */
  constructor(base: number, bytes: number, count: number) {
    this.#base = base;
    this.#end = base + bytes * count;
    this.#free = Uint32Array.from({ length: count }, (_, i) => base + bytes * (count - 1 - i));
    this.#count = count;
  }

  /** Gives the byte address of a slot, of which one must be free. */
  take(): number {
    assert(this.#count > 0, 'no slot is free');
    this.#count--;
    return this.#free[this.#count] ?? 0;
  }

  /** Gives a slot back. */
  give(address: number): void {
    assert(this.#count < this.#free.length, 'a slot given back twice');
    this.#free[this.#count] = address;
    this.#count++;
  }

  /** Whether `address` is that of a slot. */
  has(address: number): boolean {
    return address >= this.#base && address < this.#end;
  }
}
