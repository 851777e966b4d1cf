import { type ElementType, elementTypes, type Scalar } from '../../numerics/element-type.ts';
import { type Literal, literalFrom, storedOf } from '../../numerics/literal.ts';
import {
  type ArrayShape,
  arrayShape,
  type Shape,
  sameDims,
  sameShape,
  shapeText,
} from '../../numerics/shape.ts';
import { comparison, conversion, wideMaximum, wideMinimum } from '../evaluate/elementwise.ts';
import { mapped } from '../evaluate/mapped.ts';
import { bitcastOf, selectOf } from '../evaluate/rearranging.ts';
import { isReducible, reducedPrecision, reducibleTypes } from '../evaluate/reduced-precision.ts';
import { totalOrder } from '../evaluate/total-order.ts';
import { literalOf } from '../evaluate/value.ts';
import type { Draft, InstructionBase } from '../instruction.ts';
import { type Attribute, field, integer, word } from '../text/attribute.ts';
import { readChoice } from '../text/read.ts';
import {
  arrayOperand,
  equalOperands,
  expect,
  expectKind,
  expectOperands,
  isIndex,
  statedArray,
} from './check.ts';
import type { Definition, DefinitionsOf } from './definition.ts';

/** Element-wise operations with rules of their own. */
export type Elementwise = Compare | Select | Clamp | Convert | ReducePrecision;

/** An element-wise comparison. Operands: a, b. The result is pred. */
export interface Compare extends InstructionBase<'compare'> {
  readonly direction: 'EQ' | 'NE' | 'LT' | 'LE' | 'GT' | 'GE';
  /**
   * If `total`, floats are compared in the total order of IEEE 754: −NaN, −∞, …, −0, +0, …, +∞,
   * +NaN. By default, a comparison with NaN holds for `NE` alone, and −0 equals +0.
   */
  readonly order?: 'total';
}

/**
 * An element-wise choice between two arrays. Operands: the predicate, the array for true, the array
 * for false. All three have the same dimensions.
 */
export interface Select extends InstructionBase<'select'> {}

/**
 * Limits a value to a range. Operands: minimum, value, maximum. Minimum and maximum are scalars or
 * have the shape of the value.
 */
export interface Clamp extends InstructionBase<'clamp'> {}

/**
 * A change of element type. Operand: x. `convert` keeps the values, `bitcast-convert` the bits.
 *
 * If the new elements of a bitcast are narrower, each element becomes a line of elements along a new
 * last dimension, its lowest bits first. If they are wider, the lines along the last dimension become
 * one element each, and the result lacks that dimension.
 */
export interface Convert extends InstructionBase<'convert' | 'bitcast-convert'> {}

/**
 * A float rounded to a format of fewer bits; the element type stays. Operand: x. See
 * {@link reducedPrecision} for the rules of rounding.
 */
export interface ReducePrecision extends InstructionBase<'reduce-precision'> {
  /** Bits of the exponent in the narrower format, 1 or more. */
  readonly exponentBits: number;
  /** Bits of the mantissa in the narrower format, 0 or more. */
  readonly mantissaBits: number;
}

const directions = ['EQ', 'NE', 'LT', 'LE', 'GT', 'GE'] as const;

/** Type of a comparison. XLA writes it if it is not the usual one of the element type. */
const comparisonType: Attribute<Compare> = {
  key: 'type',
  write: ({ order }) => (order === 'total' ? 'TOTALORDER' : undefined),
  read: (scanner) => {
    const type = readChoice(scanner, ['TOTALORDER', 'FLOAT', 'SIGNED', 'UNSIGNED']);
    return type === 'TOTALORDER' ? { order: 'total' } : {};
  },
  otherwise: {},
};

const compare: Definition<Compare> = {
  family: 'elementwise',
  attributes: [field('direction', 'direction', word(directions)), comparisonType],
  infer: compareShape,
  evaluate: (it, operands) => compared(it, literalOf(operands[0]!), literalOf(operands[1]!)),
  element: ({ direction, order }) => (order === 'total' ? undefined : comparison(direction)),
};

const select: Definition<Select> = {
  family: 'elementwise',
  infer: selectShape,
  evaluate: ({ shape }, [predicate, onTrue, onFalse]) =>
    selectOf(shape, literalOf(predicate!), literalOf(onTrue!), literalOf(onFalse!)),
};

const clamp: Definition<Clamp> = {
  family: 'elementwise',
  infer: clampShape,
  evaluate: ({ shape }, operands) => mapped(shape, operands.map(literalOf), clamped(shape.type)),
};

const convert: Definition<Convert> = {
  family: 'elementwise',
  infer: convertShape,
  evaluate: ({ shape }, [x]) => {
    const value = literalOf(x!);
    return mapped(shape, [value], conversion(value.shape.type, shape.type));
  },
};

const bitcastConvert: Definition<Convert> = {
  family: 'elementwise',
  infer: bitcastShape,
  evaluate: ({ shape }, [x]) => bitcastOf(shape, literalOf(x!)),
};

const reducePrecision: Definition<ReducePrecision> = {
  family: 'elementwise',
  attributes: [
    field('exponent_bits', 'exponentBits', integer),
    field('mantissa_bits', 'mantissaBits', integer),
  ],
  infer: reducePrecisionShape,
  evaluate: ({ shape, exponentBits, mantissaBits }, [x]) => {
    const reduced = reducedPrecision(shape.type, { exponentBits, mantissaBits });
    return mapped(shape, [literalOf(x!)], reduced);
  },
};

function compareShape(it: Draft<Compare>): Shape {
  const [{ type, dims }] = equalOperands(it);
  const hasOrder = it.order === undefined || elementTypes[type].kind === 'float';
  expect(it, hasOrder, `floats for a comparison in total order, not ${type}`);
  return arrayShape('pred', dims);
}

function compared({ shape, direction, order }: Compare, a: Literal, b: Literal): Literal {
  const holds = comparison(direction);
  if (order !== 'total') return mapped(shape, [a, b], holds);
  const [left, right] = [totalOrder(a), totalOrder(b)];
  return literalFrom(shape, (i) => holds(left(i), right(i)));
}

/** Returns the function that limits a value to a range: the minimum of `high` and a maximum. */
function clamped(type: ElementType): (low: Scalar, x: Scalar, high: Scalar) => Scalar {
  if (!storedOf(type).isWide) {
    return (low, x, high) => Math.min(Math.max(Number(low), Number(x)), Number(high));
  }
  return (low, x, high) => wideMinimum(wideMaximum(low as bigint, x as bigint), high as bigint);
}

/** Definitions of {@link Elementwise}. */
export const elementwiseDefinitions: DefinitionsOf<Elementwise> = {
  compare,
  select,
  clamp,
  convert,
  'bitcast-convert': bitcastConvert,
  'reduce-precision': reducePrecision,
};

function selectShape(it: Draft<Select>): Shape {
  expectOperands(it, 3);
  const predicate = arrayOperand(it, 0);
  const onTrue = arrayOperand(it, 1);
  expect(it, predicate.type === 'pred', 'a pred first');
  expect(it, sameDims(predicate.dims, onTrue.dims), 'a predicate of the size of the values');
  expect(it, sameShape(onTrue, arrayOperand(it, 2)), 'values of one shape');
  return onTrue;
}

function clampShape(it: Draft<Clamp>): Shape {
  expectOperands(it, 3);
  const value = arrayOperand(it, 1);
  expectKind(it, 'number', value);
  for (const bound of [arrayOperand(it, 0), arrayOperand(it, 2)]) {
    const fits = bound.dims.length === 0 || sameDims(bound.dims, value.dims);
    expect(
      it,
      bound.type === value.type && fits,
      "bounds that are scalars or of the value's shape",
    );
  }
  return value;
}

function reducePrecisionShape(it: Draft<ReducePrecision>): Shape {
  expectOperands(it, 1);
  const operand = arrayOperand(it, 0);
  expect(it, isReducible(operand.type), `elements of type ${reducibleTypes.join(', ')}`);
  const { exponentBits, mantissaBits } = it;
  const exponents = isIndex(exponentBits) && exponentBits > 0;
  expect(it, exponents, `exponent_bits of 1 or more, not ${exponentBits}`);
  expect(it, isIndex(mantissaBits), `mantissa_bits of 0 or more, not ${mantissaBits}`);
  return operand;
}

function convertShape(it: Draft<Convert>): Shape {
  expectOperands(it, 1);
  const operand = arrayOperand(it, 0);
  const shape = statedArray(it);
  expect(it, sameDims(operand.dims, shape.dims), `the size of ${shapeText(shape)}`);
  return shape;
}

function bitcastShape(it: Draft<Convert>): Shape {
  expectOperands(it, 1);
  const operand = arrayOperand(it, 0);
  const shape = statedArray(it);
  const dims = bitcastDims(operand, shape.type);
  expect(it, dims !== undefined, `elements that fill elements of ${shape.type}`);
  expect(it, sameDims(dims, shape.dims), `the size of ${shapeText(shape)}`);
  return shape;
}

/**
 * Returns the dimensions of an array after a bitcast to elements of another type. Returns undefined
 * if the elements do not fill elements of that type.
 */
export function bitcastDims(
  { type, dims }: ArrayShape,
  to: ElementType,
): readonly number[] | undefined {
  const [before, after] = [elementTypes[type], elementTypes[to]];
  if (before.bits === after.bits) return dims;
  if (before.kind === 'pred' || after.kind === 'pred') return undefined;
  if (before.bits > after.bits) return [...dims, before.bits / after.bits];
  return dims.at(-1) === after.bits / before.bits ? dims.slice(0, -1) : undefined;
}
