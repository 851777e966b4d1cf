/**
 * Fast random number generator for the many numbers that one image needs: xoshiro128++, started
 * from four random words. Its integer arithmetic is exact, so the numbers are the same on every
 * machine. [Blackman, Vigna 2019]
 */
export class Noise {
  #a = 1;
  #b = 0;
  #c = 0;
  #d = 0;

  /** Restarts the generator with four words as its state. The words must not all be zero. */
  start(words: ArrayLike<number>): void {
    this.#a = words[0]! | 0;
    this.#b = words[1]! | 0;
    this.#c = words[2]! | 0;
    this.#d = words[3]! | 0;
  }

  /** Returns the next 32 bits, as a signed number. */
  word(): number {
    const a = this.#a;
    const b = this.#b;
    const c = this.#c ^ a;
    const d = this.#d ^ b;
    const sum = (a + this.#d) | 0;
    this.#b = b ^ c;
    this.#a = a ^ d;
    this.#c = c ^ (b << 9);
    this.#d = (d << 11) | (d >>> 21);
    return (((sum << 7) | (sum >>> 25)) + a) | 0;
  }

  /** Returns a uniform random number in [low, high): one of 2^32 equally spaced values. */
  between(low: number, high: number): number {
    return low + ((this.word() >>> 0) / 2 ** 32) * (high - low);
  }

  /** Returns a uniform random number in [-limit, limit). */
  around(limit: number): number {
    return (this.word() / 2 ** 31) * limit;
  }

  /**
   * Returns a random whole number in [0, count). The distribution is close to uniform if `count` is
   * small.
   */
  below(count: number): number {
    return Math.floor(((this.word() >>> 0) / 2 ** 32) * count);
  }

  /**
   * Fills `out` with approximately normal random numbers of mean 0 and standard deviation 1. Each
   * number is the sum of four random bytes, shifted and scaled.
   */
  fillBell(out: Float64Array): void {
    // Drawing an image spends half of its time in this loop. For speed, the loop repeats the code
    // of `word` with the state of the generator in local variables.
    let a = this.#a;
    let b = this.#b;
    let c = this.#c;
    let d = this.#d;
    for (let i = 0; i < out.length; i++) {
      const sum = (a + d) | 0;
      const word = (((sum << 7) | (sum >>> 25)) + a) | 0;
      const shifted = b << 9;
      c ^= a;
      d ^= b;
      b ^= c;
      a ^= d;
      c ^= shifted;
      d = (d << 11) | (d >>> 21);
      const pairs = (word & 0x00ff_00ff) + ((word >>> 8) & 0x00ff_00ff);
      out[i] = ((pairs & 0xffff) + (pairs >>> 16) - 510) * byteSumScale;
    }
    this.#a = a;
    this.#b = b;
    this.#c = c;
    this.#d = d;
  }
}

/** Reciprocal of the standard deviation of a sum of four uniform bytes, √(4 · (256² − 1) / 12). */
const byteSumScale = 1 / Math.sqrt((4 * (256 ** 2 - 1)) / 12);
