import { assert, at } from '../../numerics/assert.ts';
import {
  computedTypes,
  type ElementKind,
  type ElementType,
  elementTypes,
} from '../../numerics/element-type.ts';
import { PodError } from '../../numerics/error.ts';
import {
  type ArrayShape,
  elementCount,
  isArray,
  type Shape,
  sameDims,
  sameShape,
  shapeText,
  tupleShape,
} from '../../numerics/shape.ts';
import type { Draft, HloComputation } from '../instruction.ts';
import { paddedSize, type WindowDimension, windowPositions } from '../window.ts';

/* Checks that the rules of shape inference share. Each throws `bad-program` if it fails. */

/** Throws `bad-program` for an instruction that breaks a rule. `expected` describes the rule. */
export function refuse(it: Draft, expected: string): never {
  const operands = it.operands.map((operand) => shapeText(operand.shape)).join(', ');
  const name = it.name === undefined ? '' : ` at ${it.name}`;
  throw new PodError('bad-program', `${it.opcode}(${operands})${name}: expected ${expected}`);
}

/** Refuses an instruction unless `condition` holds. `expected` describes the rule. */
export function expect(it: Draft, condition: boolean, expected: string): asserts condition {
  if (!condition) refuse(it, expected);
}

/** Checks the number of operands. */
export function expectOperands(it: Draft, count: number): void {
  expect(it, it.operands.length === count, `${count} operands`);
}

/** Returns the shape of operand `i`, which must be an array. */
export function arrayOperand(it: Draft, i: number): ArrayShape {
  const { shape } = at(it.operands, i);
  expect(it, isArray(shape), `an array as operand ${i}`);
  return shape;
}

/** Returns the shapes of the operands: one or more arrays of the same dimensions. */
export function arraysOfOneSize(it: Draft): ArrayShape[] {
  expect(it, it.operands.length > 0, 'at least one operand');
  const shapes = it.operands.map((_, i) => arrayOperand(it, i));
  const { dims } = at(shapes, 0);
  for (const shape of shapes) expect(it, sameDims(shape.dims, dims), 'operands of one size');
  return shapes;
}

/** Returns the shapes of all operands. */
export function shapesOf(it: Draft): Shape[] {
  return it.operands.map(({ shape }) => shape);
}

/** Returns the two operands of an instruction, which must have the same shape. */
export function equalOperands(it: Draft): readonly [ArrayShape, ArrayShape] {
  expectOperands(it, 2);
  const a = arrayOperand(it, 0);
  const b = arrayOperand(it, 1);
  expect(it, sameShape(a, b), 'operands of one shape');
  return [a, b];
}

/** For each group of elements that an opcode may accept: their kinds. */
const kinds: Readonly<Record<Kind, readonly ElementKind[]>> = {
  any: ['pred', 'signed', 'unsigned', 'float'],
  bits: ['pred', 'signed', 'unsigned'],
  float: ['float'],
  integer: ['signed', 'unsigned'],
  number: ['signed', 'unsigned', 'float'],
  signed: ['signed', 'float'],
};

/** Name of a group of element types. `signed` are those with negative numbers. */
export type Kind = 'any' | 'bits' | 'float' | 'integer' | 'number' | 'signed';

/** Returns the element types of a group. */
export function typesOfKind(kind: Kind): readonly ElementType[] {
  return computedTypes.filter((type) => kinds[kind].includes(elementTypes[type].kind));
}

/** Checks that the elements of an array belong to a group. */
export function expectKind(it: Draft, kind: Kind, { type }: ArrayShape): void {
  const fits = kinds[kind].includes(elementTypes[type].kind);
  expect(it, fits, `elements of a ${kinds[kind].join(' or ')} type, not ${type}`);
}

/** Returns the shape that the text or the builder has given, for opcodes that need one. */
export function givenShape(it: Draft): Shape {
  assert(it.shape !== undefined, `${it.opcode} states its shape`);
  return it.shape;
}

/** Returns the given shape, which must be an array. */
export function statedArray(it: Draft): ArrayShape {
  const shape = givenShape(it);
  expect(it, isArray(shape), `an array, not ${shapeText(shape)}`);
  return checkedShape(it, shape);
}

/** Checks all arrays of a shape and returns the shape. */
export function wellFormed(it: Draft, shape: Shape): Shape {
  if (shape.type === 'tuple') for (const element of shape.elements) wellFormed(it, element);
  if (isArray(shape)) checkedShape(it, shape);
  return shape;
}

/**
 * Checks `shape` and returns it. Throws `bad-program` if a size is invalid, or if the element type
 * is one with which programs cannot compute.
 */
export function checkedShape(it: Draft, shape: ArrayShape): ArrayShape {
  const whole = shape.dims.every(isIndex) && Number.isSafeInteger(elementCount(shape));
  expect(it, whole, `sizes of 0 or more, not ${shapeText(shape)}`);
  const known = computedTypes.includes(shape.type);
  expect(it, known, `a type with arithmetic, which ${shape.type} is not`);
  return shape;
}

/** Checks that dimensions are distinct and below `rank`. `what` names them. */
export function expectDistinct(
  it: Draft,
  dimensions: readonly number[],
  rank: number,
  what: string,
): void {
  const inside = dimensions.every((d) => isIndexBelow(d, rank));
  const distinct = new Set(dimensions).size === dimensions.length;
  expect(
    it,
    inside && distinct,
    `${what} distinct and below ${rank}, not {${dimensions.join(',')}}`,
  );
}

/** Checks that each list has one entry for each dimension of the operand. */
export function expectPerDimension(
  it: Draft,
  operand: ArrayShape,
  lists: readonly (readonly number[])[],
  what: string,
): void {
  const rank = operand.dims.length;
  expect(
    it,
    lists.every(({ length }) => length === rank),
    `${what} for ${rank} dimensions`,
  );
}

/** Checks that a computation takes `operands`. */
export function expectCall(it: Draft, body: HloComputation, operands: readonly Shape[]): void {
  const parameters = body.parameters.map(({ shape }) => shape);
  const fits = sameShape(tupleShape(parameters), tupleShape(operands));
  expect(it, fits, `the operands of ${signatureText(parameters, body.root.shape)}`);
}

/** Checks the parameters and the result of a computation. */
export function expectSignature(
  it: Draft,
  body: HloComputation,
  parameters: readonly Shape[],
  result: Shape,
): void {
  const found = body.parameters.map(({ shape }) => shape);
  const fits =
    sameShape(tupleShape(found), tupleShape(parameters)) && sameShape(body.root.shape, result);
  const text = signatureText(parameters, result);
  expect(it, fits, `${body.name} to be ${text}, not ${signatureText(found, body.root.shape)}`);
}

function signatureText(parameters: readonly Shape[], result: Shape): string {
  return `(${parameters.map(shapeText).join(', ')}) -> ${shapeText(result)}`;
}

/** Checks sizes, strides, dilations and padding of a window. */
export function expectWindow(it: Draft, window: readonly WindowDimension[]): void {
  for (const { size, stride, padLow, padHigh, baseDilation, windowDilation } of window) {
    const positive = [size, stride, baseDilation, windowDilation].every((n) => isIndex(n) && n > 0);
    expect(it, positive, 'window sizes, strides and dilations of 1 or more');
    expect(it, Number.isInteger(padLow) && Number.isInteger(padHigh), 'integers as padding');
  }
}

/** Returns the number of positions of a window along a dimension of `size` elements. */
export function positionsOf(it: Draft, size: number, window: WindowDimension): number {
  expect(it, paddedSize(size, window) >= 0, 'padding that leaves at least 0 elements');
  return windowPositions(size, window);
}

/** Returns the array if there is one, otherwise the tuple of the arrays. */
export function oneOrTuple(shapes: readonly ArrayShape[]): Shape {
  return shapes.length === 1 ? at(shapes, 0) : tupleShape(shapes);
}

/** True for the shape of a token. */
export function isToken(shape: Shape): boolean {
  return shape.type === 'token';
}

/** True for an array or a tuple of arrays. */
export function isData(shape: Shape): boolean {
  return shape.type === 'tuple' ? shape.elements.every(isArray) : isArray(shape);
}

/** True for a whole number of 0 or more. */
export function isIndex(n: number): boolean {
  return Number.isSafeInteger(n) && n >= 0;
}

/** True for a whole number of 0 or more that is below `limit`. */
export function isIndexBelow(n: number, limit: number): boolean {
  return isIndex(n) && n < limit;
}
