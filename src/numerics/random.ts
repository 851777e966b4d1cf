import { assert, at } from './assert.ts';
import { type Literal, literal } from './literal.ts';
import { type ArrayShape, elementCount } from './shape.ts';

/**
 * Key of a stream of random numbers. The key and an index in the stream determine the random number
 * at this index. So the number does not depend on the order of calls or on the number of workers.
 */
export type Key = readonly [number, number];
export type Counter = readonly [number, number, number, number];

/** Returns the four random u32 of one block of Philox 4×32-10. [Salmon et al., SC'11; Random123] */
export function philox(counter: Counter, key: Key): [number, number, number, number] {
  const [c0, c1, c2, c3] = counter;
  philoxInto(block, 0, c0, c1, c2, c3, key[0], key[1]);
  return [block[0]!, block[1]!, block[2]!, block[3]!];
}

/** Writes the four numbers of {@link philox} to `out[offset … offset + 3]`. Allocates no memory. */
export function philoxInto(
  out: Uint32Array,
  offset: number,
  counter0: number,
  counter1: number,
  counter2: number,
  counter3: number,
  key0: number,
  key1: number,
): void {
  let c0 = counter0 >>> 0;
  let c1 = counter1 >>> 0;
  let c2 = counter2 >>> 0;
  let c3 = counter3 >>> 0;
  let k0 = key0 | 0;
  let k1 = key1 | 0;
  for (let round = 0; round < 10; round++) {
    const high0 = upperProduct(0xd251_1f53, c0);
    const high1 = upperProduct(0xcd9e_8d57, c2);
    const low0 = Math.imul(0xd251_1f53, c0);
    const low1 = Math.imul(0xcd9e_8d57, c2);
    c0 = (high1 ^ c1 ^ k0) >>> 0;
    c1 = low1 >>> 0;
    c2 = (high0 ^ c3 ^ k1) >>> 0;
    c3 = low0 >>> 0;
    k0 = (k0 + 0x9e37_79b9) | 0;
    k1 = (k1 + 0xbb67_ae85) | 0;
  }
  out[offset] = c0;
  out[offset + 1] = c1;
  out[offset + 2] = c2;
  out[offset + 3] = c3;
}

/**
 * Returns the key of the stream `name` of an experiment. `seed`, 0 … 2^53 − 1, is the seed of the
 * experiment. The key is a hash of seed and name:
 *
 * 1. The key starts as the seed.
 * 2. For each block of eight UTF-16 units of the name, {@link philox} computes a new key from the
 *    block and the current key.
 * 3. At the end, {@link philox} computes the result from a block that holds the length of the name
 *    and from the current key.
 */
export function stream(seed: number, name: string): Key {
  assert(Number.isSafeInteger(seed) && seed >= 0, `seed ${seed} is an integer of 0 or more`);
  let key: Key = [seed >>> 0, Math.floor(seed / 2 ** 32)];
  for (let from = 0; from < name.length; from += 8) {
    const unit = (i: number): number => name.charCodeAt(from + i) || 0;
    const pair = (i: number): number => (unit(i) | (unit(i + 1) << 16)) >>> 0;
    key = compress([pair(0), pair(2), pair(4), pair(6)], key);
  }
  return compress([name.length, 0, 0, 0x7374_726d], key);
}

/** Returns the word with index `index` (0 … 2^53 − 1) of a stream of random u32. */
export function bits(key: Key, index: number): number {
  const high = Math.floor(index / 2 ** 34);
  philoxInto(block, 0, Math.floor(index / 4) >>> 0, high, 0, 0, key[0], key[1]);
  return block[index & 3]!;
}

/**
 * Returns the number with index `index` of a stream of uniform random numbers: a multiple of 2^-24
 * in [0, 1).
 */
export function uniform(key: Key, index: number): number {
  return (bits(key, index) >>> 8) * 2 ** -24;
}

/**
 * Returns an array of random numbers, uniform between `low` and `high`. Element i is low + u ·
 * (high − low), where u is the {@link uniform} random number with index i. The element is computed
 * in f32 and rounded to the element type.
 */
export function uniformLiteral(shape: ArrayShape, key: Key, low: number, high: number): Literal {
  const span = Math.fround(high - low);
  const values = new Float32Array(elementCount(shape));
  const words = new Uint32Array(4);
  for (let i = 0; i < values.length; i++) {
    if ((i & 3) === 0) philoxInto(words, 0, (i / 4) >>> 0, 0, 0, 0, key[0], key[1]);
    const u = (at(words, i & 3) >>> 8) * 2 ** -24;
    values[i] = low + Math.fround(u * span);
  }
  return literal(shape.type, shape.dims, values);
}

const block = new Uint32Array(4);

function compress(message: Counter, key: Key): Key {
  const [a, b] = philox(message, key);
  return [a, b];
}

/** Returns the upper 32 bits of the product of two u32. Every partial product is exact in f64. */
function upperProduct(a: number, b: number): number {
  const low = (a & 0xffff) * b;
  return Math.floor(((a >>> 16) * b + Math.floor(low / 0x1_0000)) / 0x1_0000);
}
