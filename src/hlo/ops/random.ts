import { assert } from '../../numerics/assert.ts';
import { type Literal, literal, valueAt } from '../../numerics/literal.ts';
import { philoxInto } from '../../numerics/random.ts';
import {
  arrayShape,
  elementCount,
  isArray,
  type Shape,
  sameShape,
  shapeText,
} from '../../numerics/shape.ts';
import { literalOf, type Value } from '../evaluate/value.ts';
import type { Draft, InstructionBase } from '../instruction.ts';
import { field, word } from '../text/attribute.ts';
import { arrayOperand, expect, expectOperands, givenShape, wellFormed } from './check.ts';
import type { Definition, DefinitionsOf } from './definition.ts';

/** Operations that make random bits. */
export type Random = RngBitGenerator;

/**
 * Random bits of the generator Philox 4×32-10 (numerics/random.ts). Operand: the state, u32[4] =
 * (key0, key1, counter0, counter1). Result: the tuple (next state, random bits as u32).
 */
export interface RngBitGenerator extends InstructionBase<'rng-bit-generator', Shape> {
  readonly algorithm: 'rng_philox';
}

const rngBitGenerator: Definition<RngBitGenerator> = {
  family: 'random',
  attributes: [field('algorithm', 'algorithm', word(['rng_philox']))],
  infer: rngShape,
  evaluate: ({ shape }, [state]) => randomBits(shape, literalOf(state!)),
};

/** Definitions of {@link Random}. */
export const randomDefinitions: DefinitionsOf<Random> = { 'rng-bit-generator': rngBitGenerator };

function rngShape(it: Draft<RngBitGenerator>): Shape {
  expectOperands(it, 1);
  const state = arrayShape('u32', [4]);
  expect(it, sameShape(arrayOperand(it, 0), state), 'a state u32[4]');
  const shape = givenShape(it);
  const [next, bits] = shape.type === 'tuple' ? shape.elements : [];
  const fits =
    shape.type === 'tuple' &&
    shape.elements.length === 2 &&
    next !== undefined &&
    sameShape(next, state) &&
    bits?.type === 'u32';
  expect(it, fits, `a result (u32[4], u32[...]), not ${shapeText(shape)}`);
  return wellFormed(it, shape);
}

/**
 * Computes random bits and the next state of the generator. A state has four words: two words of a
 * key, then the lower and the upper word of a counter c of 64 bits. Philox makes a block of four
 * random words from the key and a counter of 128 bits. The upper 64 bits of that counter are always
 * 0 here. Block b of the result comes from the counter c + b, with b from 0. In the next state, c
 * is greater by the number of blocks.
 */
function randomBits(shape: Shape, state: Literal): Value {
  const drawn = shape.type === 'tuple' ? shape.elements[1] : undefined;
  assert(drawn !== undefined && isArray(drawn), 'random bits are an array');
  const count = elementCount(drawn);
  const blocks = Math.ceil(count / 4);
  const words = new Uint32Array(4 * blocks);
  const [key0, key1, low, high] = [0, 1, 2, 3].map((i) => valueAt(state, i)) as Quad;
  for (let b = 0; b < blocks; b++) {
    const carry = Math.floor((low + b) / 2 ** 32);
    philoxInto(words, 4 * b, (low + b) >>> 0, (high + carry) >>> 0, 0, 0, key0, key1);
  }
  const data = words.slice(0, count);
  const end = low + blocks;
  const next = [key0, key1, end >>> 0, (high + Math.floor(end / 2 ** 32)) >>> 0];
  return [literal('u32', [4], next), { shape: arrayShape('u32', drawn.dims), data }];
}

type Quad = [number, number, number, number];
