import { at } from '../../numerics/assert.ts';
import {
  arrayShape,
  elementCount,
  isArray,
  type Shape,
  sameDims,
  sameShape,
  shapeText,
} from '../../numerics/shape.ts';
import {
  broadcastOf,
  concatenateOf,
  iotaOf,
  padOf,
  reshapeOf,
  reverseOf,
  sliceOf,
  transposeOf,
} from '../evaluate/rearranging.ts';
import { literalOf } from '../evaluate/value.ts';
import type { Draft, HloInstruction, InstructionBase } from '../instruction.ts';
import { type Attribute, field, integer, integers, oneDimension } from '../text/attribute.ts';
import { readInteger } from '../text/read.ts';
import type { Scanner } from '../text/scanner.ts';
import {
  arrayOperand,
  expect,
  expectDistinct,
  expectOperands,
  expectPerDimension,
  isIndex,
  isIndexBelow,
  statedArray,
} from './check.ts';
import type { Definition, DefinitionsOf } from './definition.ts';

/** Operations that move or repeat elements without changing them, or count indices. */
export type Rearranging =
  | Iota
  | Broadcast
  | Reshape
  | Transpose
  | Slice
  | Pad
  | Concatenate
  | Reverse;

/** An array that counts 0, 1, 2, … along `dimension`. No operands. */
export interface Iota extends InstructionBase<'iota'> {
  readonly dimension: number;
}

/**
 * Repeats the operand to a larger shape. Dimension i of the operand becomes dimension
 * `dimensions[i]` of the result. Along each other dimension of the result, all elements are equal.
 */
export interface Broadcast extends InstructionBase<'broadcast'> {
  readonly dimensions: readonly number[];
}

/** The operand's elements, in unchanged row-major order, as an array of other dimensions. */
export interface Reshape extends InstructionBase<'reshape'> {}

/**
 * The operand with permuted dimensions: dimension i of the result is dimension `permutation[i]` of
 * the operand.
 */
export interface Transpose extends InstructionBase<'transpose'> {
  readonly permutation: readonly number[];
}

/**
 * A part of the operand. Along dimension d, it has the elements with the indices `starts[d]`,
 * `starts[d]` + `strides[d]`, `starts[d]` + 2 · `strides[d]` and so on, up to but not including
 * `limits[d]`.
 */
export interface Slice extends InstructionBase<'slice'> {
  readonly starts: readonly number[];
  readonly limits: readonly number[];
  readonly strides: readonly number[];
}

/**
 * An array with padding. Operands: the array, the scalar value of the padding. Each field has one
 * number for each dimension of the array. `low` is the number of padding elements before the first
 * element, `high` after the last, and `interior` between any two neighbouring elements. If `low` or
 * `high` is negative, that many elements are removed instead.
 */
export interface Pad extends InstructionBase<'pad'> {
  readonly low: readonly number[];
  readonly high: readonly number[];
  readonly interior: readonly number[];
}

/**
 * Joins arrays one after another along `dimension`. Operands: the arrays. Their sizes may differ
 * only along this dimension.
 */
export interface Concatenate extends InstructionBase<'concatenate'> {
  readonly dimension: number;
}

/** The operand with the order of elements reversed along `dimensions`. */
export interface Reverse extends InstructionBase<'reverse'> {
  readonly dimensions: readonly number[];
}

const iota: Definition<Iota> = {
  family: 'rearranging',
  attributes: [field('iota_dimension', 'dimension', integer)],
  infer: iotaShape,
  evaluate: (it) => iotaOf(it.shape, it.dimension),
};

const broadcast: Definition<Broadcast> = {
  family: 'rearranging',
  attributes: [field('dimensions', 'dimensions', integers)],
  infer: broadcastShape,
  evaluate: (it, [x]) => broadcastOf(it, literalOf(x!)),
};

const reshape: Definition<Reshape> = {
  family: 'rearranging',
  infer: reshapeShape,
  evaluate: (it, [x]) => reshapeOf(it.shape, literalOf(x!)),
};

const transpose: Definition<Transpose> = {
  family: 'rearranging',
  attributes: [field('dimensions', 'permutation', integers)],
  infer: transposeShape,
  evaluate: (it, [x]) => transposeOf(it, literalOf(x!)),
};

/** Ranges of a slice: `{[start:limit:stride], …}`. The reader also takes `[start:limit]`. */
const ranges: Attribute<Slice> = {
  key: 'slice',
  write: ({ starts, limits, strides }) => {
    const all = starts.map((start, d) => `[${start}:${limits[d]}:${strides[d]}]`);
    return `{${all.join(', ')}}`;
  },
  read: (scanner) => {
    const [starts, limits, strides] = columns(scanner.list('{', '}', () => readRange(scanner)));
    return { starts, limits, strides };
  },
};

const slice: Definition<Slice> = {
  family: 'rearranging',
  attributes: [ranges],
  infer: sliceShape,
  evaluate: (it, [x]) => sliceOf(it, literalOf(x!)),
};

/**
 * Padding of each dimension, such as `0_1x0_1_2`: low, high and optional interior padding. A scalar
 * has no dimension, but XLA's parser requires the padding of at least one: `0_0`.
 */
const padding: Attribute<Pad> = {
  key: 'padding',
  write: ({ low, high, interior }) => {
    const sizes = low.map((n, d) => `${n}_${high[d]}_${interior[d]}`);
    return sizes.length === 0 ? '0_0' : sizes.join('x');
  },
  read: (scanner, { operands }) => {
    const sizes = readPadding(scanner);
    const [low, high, interior] = columns(isScalar(operands[0]) && isNone(sizes) ? [] : sizes);
    return { low, high, interior };
  },
};

const pad: Definition<Pad> = {
  family: 'rearranging',
  attributes: [padding],
  infer: padShape,
  evaluate: (it, [x, value]) => padOf(it, literalOf(x!), literalOf(value!)),
};

const concatenate: Definition<Concatenate> = {
  family: 'rearranging',
  attributes: [field('dimensions', 'dimension', oneDimension)],
  infer: concatenateShape,
  evaluate: (it, operands) => concatenateOf(it, operands.map(literalOf)),
};

const reverse: Definition<Reverse> = {
  family: 'rearranging',
  attributes: [field('dimensions', 'dimensions', integers)],
  infer: (it) => {
    expectOperands(it, 1);
    expectDistinct(it, it.dimensions, arrayOperand(it, 0).dims.length, 'dimensions');
    return arrayOperand(it, 0);
  },
  evaluate: (it, [x]) => reverseOf(it, literalOf(x!)),
};

/** Definitions of {@link Rearranging}. */
export const rearrangingDefinitions: DefinitionsOf<Rearranging> = {
  iota,
  broadcast,
  reshape,
  transpose,
  slice,
  pad,
  concatenate,
  reverse,
};

function iotaShape(it: Draft<Iota>): Shape {
  const { dimension } = it;
  expectOperands(it, 0);
  const shape = statedArray(it);
  expect(it, shape.type !== 'pred', 'a type of numbers');
  expect(it, isIndexBelow(dimension, shape.dims.length), `a dimension of ${shapeText(shape)}`);
  return shape;
}

function broadcastShape(it: Draft<Broadcast>): Shape {
  expectOperands(it, 1);
  const operand = arrayOperand(it, 0);
  const shape = statedArray(it);
  const rank = shape.dims.length;
  expect(it, operand.type === shape.type, `elements of type ${shape.type}`);
  expect(
    it,
    it.dimensions.length === operand.dims.length,
    'a target dimension for each dimension of the operand',
  );
  expectDistinct(it, it.dimensions, rank, 'target dimensions');
  const kept = it.dimensions.every((d, i) => shape.dims[d] === operand.dims[i]);
  expect(it, kept, `sizes kept in ${shapeText(shape)} at dimensions {${it.dimensions.join(',')}}`);
  return shape;
}

function reshapeShape(it: Draft<Reshape>): Shape {
  expectOperands(it, 1);
  const operand = arrayOperand(it, 0);
  const shape = statedArray(it);
  const same = operand.type === shape.type && elementCount(operand) === elementCount(shape);
  expect(it, same, `the type and number of elements of ${shapeText(shape)}`);
  return shape;
}

function transposeShape(it: Draft<Transpose>): Shape {
  expectOperands(it, 1);
  const operand = arrayOperand(it, 0);
  const { permutation } = it;
  const rank = operand.dims.length;
  expect(it, permutation.length === rank, `a permutation of ${rank} dimensions`);
  expectDistinct(it, permutation, rank, 'a permutation');
  return arrayShape(
    operand.type,
    permutation.map((d) => at(operand.dims, d)),
  );
}

function sliceShape(it: Draft<Slice>): Shape {
  expectOperands(it, 1);
  const operand = arrayOperand(it, 0);
  const { starts, limits, strides } = it;
  expectPerDimension(it, operand, [starts, limits, strides], 'starts, limits and strides');
  const dims = operand.dims.map((size, d) => {
    const start = at(starts, d);
    const limit = at(limits, d);
    const stride = at(strides, d);
    const inside = isIndex(start) && isIndex(limit) && start <= limit && limit <= size;
    expect(it, inside, `0 <= start ${start} <= limit ${limit} <= ${size} in dimension ${d}`);
    expect(it, isIndex(stride) && stride > 0, `a stride of 1 or more, not ${stride}`);
    return Math.ceil((limit - start) / stride);
  });
  return arrayShape(operand.type, dims);
}

function padShape(it: Draft<Pad>): Shape {
  expectOperands(it, 2);
  const operand = arrayOperand(it, 0);
  const { low, high, interior } = it;
  expect(it, sameShape(arrayOperand(it, 1), arrayShape(operand.type, [])), 'a scalar to pad with');
  expectPerDimension(it, operand, [low, high, interior], 'low, high and interior padding');
  const dims = operand.dims.map((size, d) => {
    const between = at(interior, d);
    expect(it, isIndex(between), `interior padding of 0 or more, not ${between}`);
    const whole = Number.isInteger(at(low, d)) && Number.isInteger(at(high, d));
    const padded = at(low, d) + size + Math.max(0, size - 1) * between + at(high, d);
    expect(it, whole && padded >= 0, `at least 0 elements in dimension ${d}, not ${padded}`);
    return padded;
  });
  return arrayShape(operand.type, dims);
}

function concatenateShape(it: Draft<Concatenate>): Shape {
  expect(it, it.operands.length > 0, 'at least one operand');
  const first = arrayOperand(it, 0);
  const { dimension } = it;
  expect(it, isIndexBelow(dimension, first.dims.length), `dimension ${dimension} to exist`);
  let size = 0;
  for (let i = 0; i < it.operands.length; i++) {
    const operand = arrayOperand(it, i);
    const resized = operand.dims.map((n, d) => (d === dimension ? at(first.dims, d) : n));
    const fits = operand.type === first.type && sameDims(resized, first.dims);
    expect(it, fits, `operands that differ in dimension ${dimension} alone`);
    size += at(operand.dims, dimension);
  }
  return arrayShape(
    first.type,
    first.dims.map((n, d) => (d === dimension ? size : n)),
  );
}

/** Reads a range of a slice: `[start:limit]` or `[start:limit:stride]`. */
function readRange(scanner: Scanner): [number, number, number] {
  scanner.expect('[');
  const start = readInteger(scanner);
  scanner.expect(':');
  const limit = readInteger(scanner);
  const stride = scanner.take(':') ? readInteger(scanner) : 1;
  scanner.expect(']');
  return [start, limit, stride];
}

/**
 * Reads padding such as `0_1x0_1_2`: low, high and optional interior padding of each dimension.
 * The padding of a scalar is empty or `0_0`.
 */
function readPadding(scanner: Scanner): [number, number, number][] {
  const text = scanner.tryMatch(/-?\d+_-?\d+(_\d+)?(x-?\d+_-?\d+(_\d+)?)*/y) ?? '';
  if (text === '') return [];
  return text.split('x').map((part) => {
    const [low, high, interior] = part.split('_').map(Number);
    return [low!, high!, interior ?? 0];
  });
}

function isScalar(it: HloInstruction | undefined): boolean {
  return it !== undefined && isArray(it.shape) && it.shape.dims.length === 0;
}

/**
 * True for `0_0`: padding of one dimension by no elements. HLO texts may give this padding to a
 * scalar too, although a scalar has no dimension.
 */
function isNone(padding: readonly (readonly number[])[]): boolean {
  return padding.length === 1 && at(padding, 0).every((size) => size === 0);
}

function columns(
  rows: readonly (readonly [number, number, number])[],
): [number[], number[], number[]] {
  return [rows.map((row) => row[0]), rows.map((row) => row[1]), rows.map((row) => row[2])];
}
