import { elementTypes } from '../../numerics/element-type.ts';
import {
  arrayShape,
  isArray,
  type Shape,
  sameDims,
  sameShape,
  shapeText,
} from '../../numerics/shape.ts';
import { mapped } from '../evaluate/mapped.ts';
import { randomBitsOf } from '../evaluate/random.ts';
import { stochasticConversion } from '../evaluate/stochastic.ts';
import { literalOf } from '../evaluate/value.ts';
import type { Draft, InstructionBase } from '../instruction.ts';
import { field, word } from '../text/attribute.ts';
import {
  arrayOperand,
  expect,
  expectKind,
  expectOperands,
  givenShape,
  statedArray,
  wellFormed,
} from './check.ts';
import type { Definition, DefinitionsOf } from './definition.ts';

/** Operations that make random bits or use them. */
export type Random = RngBitGenerator | StochasticConvert;

/**
 * Random bits. Operand: the state of the generator, u32[4] or u64[2]; for Philox, also u64[3]. A
 * state has a key and a counter (evaluate/random.ts). Result: the tuple (next state, random bits).
 * The bits have an integer type. Integers of less than 32 bits are the lower bits of u32.
 *
 * The algorithms are Philox 4×32-10 (numerics/random.ts) and Threefry 2×32-20
 * (numerics/threefry.ts). `rng_default` is Philox.
 */
export interface RngBitGenerator extends InstructionBase<'rng-bit-generator', Shape> {
  readonly algorithm: RngAlgorithm;
}

/** Name of a generator of random bits. */
export type RngAlgorithm = (typeof algorithms)[number];

const algorithms = ['rng_philox', 'rng_three_fry', 'rng_default'] as const;

/**
 * A float x rounded at random to one of the two neighbours of x in another type. Operands: x, and
 * random bits, as unsigned integers as wide as x. See {@link stochasticConversion}.
 */
export interface StochasticConvert extends InstructionBase<'stochastic-convert'> {}

const rngBitGenerator: Definition<RngBitGenerator> = {
  family: 'random',
  attributes: [field('algorithm', 'algorithm', word(algorithms))],
  infer: rngShape,
  evaluate: (it, [state]) => randomBitsOf(it, literalOf(state!)),
};

const stochasticConvert: Definition<StochasticConvert> = {
  family: 'elementwise',
  infer: stochasticConvertShape,
  evaluate: ({ shape }, [x, random]) => {
    const value = literalOf(x!);
    const convert = stochasticConversion(value.shape.type, shape.type);
    return mapped(shape, [value, literalOf(random!)], convert);
  },
};

/** Definitions of {@link Random}. */
export const randomDefinitions: DefinitionsOf<Random> = {
  'rng-bit-generator': rngBitGenerator,
  'stochastic-convert': stochasticConvert,
};

function rngShape(it: Draft<RngBitGenerator>): Shape {
  expectOperands(it, 1);
  const state = arrayOperand(it, 0);
  const counters = it.algorithm === 'rng_three_fry' ? [2] : [2, 3];
  const states = [arrayShape('u32', [4]), ...counters.map((n) => arrayShape('u64', [n]))];
  const isState = states.some((shape) => sameShape(state, shape));
  expect(it, isState, `a state ${states.map(shapeText).join(' or ')} for ${it.algorithm}`);
  const shape = givenShape(it);
  const [next, bits] = shape.type === 'tuple' ? shape.elements : [];
  const fits =
    shape.type === 'tuple' &&
    shape.elements.length === 2 &&
    next !== undefined &&
    sameShape(next, state) &&
    bits !== undefined &&
    isArray(bits);
  expect(it, fits, `a result (${shapeText(state)}, bits), not ${shapeText(shape)}`);
  expectKind(it, 'integer', bits);
  return wellFormed(it, shape);
}

function stochasticConvertShape(it: Draft<StochasticConvert>): Shape {
  expectOperands(it, 2);
  const x = arrayOperand(it, 0);
  const random = arrayOperand(it, 1);
  expectKind(it, 'float', x);
  const { bits } = elementTypes[x.type];
  const { kind, bits: width } = elementTypes[random.type];
  expect(it, kind === 'unsigned' && width === bits, `random bits as u${bits}, not ${random.type}`);
  expect(it, sameDims(x.dims, random.dims), 'random bits of the size of the value');
  const shape = statedArray(it);
  expect(it, sameDims(x.dims, shape.dims), `the size of ${shapeText(shape)}`);
  expectKind(it, 'signed', shape);
  return shape;
}
