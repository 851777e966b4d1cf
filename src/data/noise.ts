/**
 * A fast sequence of random numbers, for the many that one image takes: xoshiro128++, started from
 * four random words. Exact integer arithmetic, so the same everywhere. [Blackman, Vigna 2019]
 */
export class Noise {
  #a = 1;
  #b = 0;
  #c = 0;
  #d = 0;

  /** Begins the sequence that belongs to four words, which must not all be zero. */
  start(words: ArrayLike<number>): void {
    this.#a = words[0]! | 0;
    this.#b = words[1]! | 0;
    this.#c = words[2]! | 0;
    this.#d = words[3]! | 0;
  }

  /** The next 32 bits, as a signed number. */
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

  /** In [low, high), in steps of 2^-32 of it. */
  between(low: number, high: number): number {
    return low + ((this.word() >>> 0) / 2 ** 32) * (high - low);
  }

  /** In [-limit, limit). */
  around(limit: number): number {
    return (this.word() / 2 ** 31) * limit;
  }

  /** A whole number in [0, count), for small counts. */
  below(count: number): number {
    return Math.floor(((this.word() >>> 0) / 2 ** 32) * count);
  }

  /** About normal with mean 0 and deviation 1: the sum of the four bytes of a word. */
  bell(): number {
    const word = this.word();
    const sum = (word & 255) + ((word >>> 8) & 255) + ((word >>> 16) & 255) + (word >>> 24);
    return (sum - 510) * byteSumScale;
  }
}

/** 1 over the deviation of a sum of four uniform bytes, √(4 · (256² − 1) / 12). */
const byteSumScale = 1 / Math.sqrt((4 * (256 ** 2 - 1)) / 12);
