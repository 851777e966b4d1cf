import { at } from '../../src/numerics/assert.ts';
import { digest, digestText } from '../../src/numerics/digest.ts';
import type { Program } from '../../src/pod/pod.ts';

/** Words of the weights of a simulated program. */
const weightWords = 2;

/**
 * Weights of all programs on one simulated Cloud TPU: eight bytes for each program. As on the
 * emulated chip, a program that owns its weights has memory for two sets, after an even and after
 * an odd number of steps, so that an interrupted step can run again. A new Cloud TPU has zeros.
 */
export class Weights {
  readonly #programs: readonly Program[];
  readonly #sets: readonly (readonly [Uint32Array, Uint32Array])[];

  constructor(programs: readonly Program[]) {
    this.#programs = programs;
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

  /** Sets the weights of a program after `steps` steps to the first of `values`, or to zeros. */
  write(program: number, steps: number, values: readonly Uint8Array[]): void {
    const words = this.of(program, steps).fill(0);
    const [value] = values;
    if (value !== undefined) new Uint8Array(words.buffer).set(value.subarray(0, words.byteLength));
  }

  /** Returns a copy of the weights of a program after `steps` steps. */
  read(program: number, steps: number): Uint8Array {
    return new Uint8Array(this.of(program, steps).slice().buffer);
  }

  /** Copies the weights of all programs from another Cloud TPU. */
  copy(from: Weights, steps: readonly number[]): void {
    this.#programs.forEach((_, program) => {
      const count = at(steps, program);
      this.of(program, count).set(from.of(program, count));
    });
  }

  /** Returns the digest of the weights of a program after `steps` steps. */
  digest(program: number, steps: number): string {
    return digestText(digest(this.of(program, steps)));
  }

  /** Returns the digest of the weights of each program. */
  digests(steps: readonly number[]): string[] {
    return this.#programs.map((_, program) => this.digest(program, at(steps, program)));
  }
}

/**
 * Returns the word with which a hash enters the weights: the bits of a finite f32. For a digest all
 * NaNs are equal, so a flipped bit of a NaN would not be noticed.
 */
export function finite(word: number): number {
  return word & 0xbfff_ffff;
}

/** Flips one bit. The number of the bit is taken modulo the number of bits. */
export function flipBit(words: Uint32Array, bit: number): void {
  const word = Math.floor(bit / 32) % words.length;
  words[word] = words[word]! ^ (1 << (bit % 32));
}

/** Returns a 32-bit hash of whole numbers, in order. */
export function hash(...values: readonly number[]): number {
  let state = 0x9e37_79b9;
  for (const value of values) {
    state = Math.imul(state ^ value, 0x85eb_ca6b);
    state ^= state >>> 13;
    state = Math.imul(state, 0xc2b2_ae35);
    state ^= state >>> 16;
  }
  return state >>> 0;
}
