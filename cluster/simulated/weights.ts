import { at } from '../../src/numerics/assert.ts';
import { digest, digestText } from '../../src/numerics/digest.ts';
import type { Program } from '../../src/pod/pod.ts';

/** Number of 32-bit words of weights that a simulated program has. */
const weightWords = 2;

/**
 * Weights of all programs on one simulated Cloud TPU. A program with weights of its own has two
 * sets of them, as on the emulated chip. Set 0 holds the weights after an even number of steps, set
 * 1 those after an odd number. So a step reads one set and writes the other. An interrupted step
 * can run again, because the weights that it has read are still there. Each set has eight bytes, at
 * first all 0.
 */
export class Weights {
  readonly #sets: readonly (readonly [Uint32Array, Uint32Array])[];

  constructor(programs: readonly Program[]) {
    this.#sets = programs.map(({ parametersFrom }) => {
      const even = new Uint32Array(weightWords);
      const odd = parametersFrom === undefined ? new Uint32Array(weightWords) : even;
      return [even, odd];
    });
  }

  /** The weights of a program after `steps` steps. */
  of(program: number, steps: number): Uint32Array {
    return at(at(this.#sets, program), steps % 2);
  }

  /**
   * Writes the weights that a program has after `steps` steps. `values[0]` has the bytes of the new
   * weights. If `values` is empty, the new weights are zeros.
   */
  write(program: number, steps: number, values: readonly Uint8Array[]): void {
    const words = this.of(program, steps).fill(0);
    const [value] = values;
    if (value !== undefined) new Uint8Array(words.buffer).set(value.subarray(0, words.byteLength));
  }

  /** Returns a copy of the weights of a program after `steps` steps. */
  read(program: number, steps: number): Uint8Array {
    return new Uint8Array(this.of(program, steps).slice().buffer);
  }

  /** Copies all weights from another Cloud TPU. Program i has done `steps[i]` steps. */
  copy(from: Weights, steps: readonly number[]): void {
    this.#sets.forEach((_, program) => {
      const count = at(steps, program);
      this.of(program, count).set(from.of(program, count));
    });
  }

  /** Returns the digest of the weights of a program after `steps` steps. */
  digest(program: number, steps: number): string {
    return digestText(digest(this.of(program, steps)));
  }

  /** Returns the digest of the weights of each program. Program i has done `steps[i]` steps. */
  digests(steps: readonly number[]): string[] {
    return this.#sets.map((_, program) => this.digest(program, at(steps, program)));
  }
}

/**
 * Turns a hash into the bits of an f32 weight. Clears the highest bit of the exponent, so the
 * weight is finite and never a NaN. All NaNs have the same digest. So if a fault flipped a bit of a
 * NaN, the digest might not change, and the fault would go unnoticed.
 */
export function finite(word: number): number {
  return word & 0xbfff_ffff;
}

/** Flips one bit of `words`. Its index is `bit` modulo the number of bits in `words`. */
export function flipBit(words: Uint32Array, bit: number): void {
  const word = Math.floor(bit / 32) % words.length;
  words[word] = words[word]! ^ (1 << (bit % 32));
}

/** Returns a 32-bit hash of whole numbers. The hash depends on their order. */
export function hash(...values: readonly number[]): number {
  let state = hashStart;
  for (const value of values) state = mixed(state, value);
  return state >>> 0;
}

/** State of a {@link hash} before its first number. */
export const hashStart = 0x9e37_79b9;

/**
 * Returns the state of a hash after one more number. Code that runs very often calls this function
 * instead of {@link hash}, which makes an array.
 */
export function mixed(state: number, value: number): number {
  let next = Math.imul(state ^ value, 0x85eb_ca6b);
  next ^= next >>> 13;
  next = Math.imul(next, 0xc2b2_ae35);
  return next ^ (next >>> 16);
}
