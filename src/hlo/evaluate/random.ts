import { assert, at } from '../../numerics/assert.ts';
import { elementTypes, type Scalar } from '../../numerics/element-type.ts';
import { type Literal, literalFrom, scalarAt } from '../../numerics/literal.ts';
import { philox } from '../../numerics/random.ts';
import { type ArrayShape, elementCount, isArray, product } from '../../numerics/shape.ts';
import { type Pair, threefry } from '../../numerics/threefry.ts';
import type { RngBitGenerator } from '../instruction.ts';
import type { Value } from './value.ts';

/**
 * Computes random bits and the next state of a generator. A state holds a key of 64 bits and a
 * counter. The generator makes a block of random words from the key and one value of the counter. The
 * blocks of the result come from the counter, the counter + 1, and so on. In the next state, the
 * counter is greater by the number of blocks.
 */
export function randomBitsOf({ algorithm, shape }: RngBitGenerator, state: Literal): Value {
  const drawn = shape.type === 'tuple' ? shape.elements[1] : undefined;
  assert(drawn !== undefined && isArray(drawn), 'random bits are an array');
  const isPhilox = algorithm !== 'rng_three_fry';
  const given = keyAndCounter(state, isPhilox);
  const { words, blocks } = isPhilox ? philoxWords(drawn, given) : threefryWords(drawn, given);
  const isWide = elementTypes[drawn.type].bits === 64;
  const element = (i: number): Scalar => (isWide ? wide(words(2 * i), words(2 * i + 1)) : words(i));
  return [advanced(state, given.counter(blocks)), literalFrom(drawn, element)];
}

/** The key of a generator, and the counter of each block, by the number of the block. */
interface KeyAndCounter {
  readonly key: Pair;
  counter(block: number): bigint;
}

/** Random words as a function of their number, and how many blocks they need. */
interface Words {
  readonly words: (i: number) => number;
  readonly blocks: number;
}

/** Returns the words of Philox: all four words of each block, in order. */
function philoxWords(drawn: ArrayShape, { key, counter }: KeyAndCounter): Words {
  const count = elementCount(drawn) * (elementTypes[drawn.type].bits === 64 ? 2 : 1);
  const blocks = Array.from({ length: Math.ceil(count / 4) }, (_, b) => {
    const c = counter(b);
    return philox([word(c, 0), word(c, 1), word(c, 2), word(c, 3)], key);
  });
  return { blocks: blocks.length, words: (i) => at(at(blocks, Math.floor(i / 4)), i % 4) };
}

/**
 * Returns the words of Threefry. An element of 64 bits takes both words of a block, and the blocks
 * are in row-major order. An element of fewer bits takes one word: the array is cut along a dimension
 * into pairs of elements, and each pair takes the words of a block. An element without a partner
 * takes the first word. [XLA, prng.cc]
 */
function threefryWords(drawn: ArrayShape, { key, counter }: KeyAndCounter): Words {
  const made = (count: number): readonly Pair[] =>
    Array.from({ length: count }, (_, b) => {
      const c = counter(b);
      return threefry([word(c, 0), word(c, 1)], key);
    });
  if (elementTypes[drawn.type].bits === 64) {
    const blocks = made(elementCount(drawn));
    return { blocks: blocks.length, words: (i) => at(at(blocks, Math.floor(i / 2)), i % 2) };
  }
  const { dims } = drawn;
  const along = pairedDimension(dims);
  const size = dims[along] ?? 1;
  const pairs = Math.ceil(size / 2);
  const inner = product(dims.slice(along + 1));
  const blocks = made(product(dims.slice(0, along)) * pairs * inner);
  const words = (i: number): number => {
    const index = Math.floor(i / inner) % size;
    const outer = Math.floor(i / (inner * size));
    const b = (outer * pairs + Math.floor(index / 2)) * inner + (i % inner);
    return at(at(blocks, b), index % 2);
  };
  return { blocks: blocks.length, words };
}

/** Returns the first dimension of an even size, or else the first of the largest size. */
function pairedDimension(dims: readonly number[]): number {
  const even = dims.findIndex((size) => size % 2 === 0);
  return even >= 0 ? even : Math.max(0, dims.indexOf(Math.max(...dims)));
}

/**
 * Reads a state. The first 64 bits are the key, and the next 64 the lower half of the counter. Only
 * Philox has an upper half: the third element of u64[3]. For u64[2], the key is the upper half [XLA,
 * rng_bit_generator_expander.cc]; for u32[4], it is 0, as in the generator of a core.
 */
function keyAndCounter(state: Literal, isPhilox: boolean): KeyAndCounter {
  const parts = wideParts(state);
  const [whole, low] = [at(parts, 0), at(parts, 1)];
  const key: Pair = [word(whole, 0), word(whole, 1)];
  if (!isPhilox || state.shape.type === 'u32') {
    return { key, counter: (block) => (low + BigInt(block)) & mask64 };
  }
  const first = low | ((parts[2] ?? whole) << 64n);
  return { key, counter: (block) => first + BigInt(block) };
}

/** Returns the state with another counter, whose upper bits are dropped where there is no room. */
function advanced(state: Literal, counter: bigint): Literal {
  const [key] = wideParts(state);
  const parts = [key!, counter & mask64, (counter >> 64n) & mask64];
  if (state.shape.type !== 'u32') return literalFrom(state.shape, (i) => at(parts, i));
  return literalFrom(state.shape, (i) => word(at(parts, i >> 1), i % 2));
}

/** Returns the elements of a state as numbers of 64 bits. Of two u32, the first one is the lower half. */
function wideParts(state: Literal): readonly bigint[] {
  const elements = Array.from({ length: state.data.length }, (_, i) => scalarAt(state, i));
  if (state.shape.type !== 'u32') return elements as bigint[];
  const [a, b, c, d] = elements as number[];
  return [wide(a!, b!), wide(c!, d!)];
}

const mask64 = 2n ** 64n - 1n;

function wide(low: number, high: number): bigint {
  return BigInt(low) | (BigInt(high) << 32n);
}

/** Returns word `i` of an integer, counted from the lowest. */
function word(value: bigint, i: number): number {
  return Number((value >> BigInt(32 * i)) & 0xffff_ffffn);
}
