import {
  convert,
  multiply,
  pad,
  reduceSum,
  reshape,
  reverse,
  scalar,
  slice,
  transpose,
} from '../hlo/build.ts';
import type {
  Broadcast,
  Concatenate,
  Convert,
  HloInstruction,
  Pad,
  Reshape,
  Reverse,
  Slice,
  StochasticConvert,
  Transpose,
} from '../hlo/instruction.ts';
import { at } from '../numerics/assert.ts';
import { elementTypes } from '../numerics/element-type.ts';
import { elementCount } from '../numerics/shape.ts';
import { filled } from './fill.ts';
import { arrayOf, type Contribution, operand, toOperands } from './rule.ts';

/**
 * Returns the cotangent of a convert's operand: the cotangent of the result, converted to the type
 * of the operand. An operand of integers or preds receives no cotangent.
 */
export function convertRule(it: Convert | StochasticConvert, ct: HloInstruction): Contribution[] {
  const { type } = arrayOf(operand(it, 0));
  if (elementTypes[type].kind !== 'float') return [];
  return toOperands(it, () => convert(ct, type));
}

/**
 * Returns the cotangent of a broadcast's operand: the sum of `ct` over the dimensions that the
 * broadcast added.
 */
export function broadcastRule(it: Broadcast, ct: HloInstruction): Contribution[] {
  const repeated = indices(it.shape.dims).filter((d) => !it.dimensions.includes(d));
  const kept = it.dimensions.toSorted((a, b) => a - b);
  const order = it.dimensions.map((d) => kept.indexOf(d));
  return toOperands(it, () => permuted(sumOver(ct, repeated), order));
}

/** Cotangent of a reshape's operand: `ct` in the operand's shape. */
export function reshapeRule(it: Reshape, ct: HloInstruction): Contribution[] {
  return toOperands(it, () => reshape(ct, arrayOf(operand(it, 0)).dims));
}

/** Cotangent of a transpose's operand: `ct`, transposed back. */
export function transposeRule(it: Transpose, ct: HloInstruction): Contribution[] {
  return toOperands(it, () => permuted(ct, inverse(it.permutation)));
}

/** Cotangent of a slice's operand: `ct` at the elements that are in the slice, and 0 elsewhere. */
export function sliceRule(it: Slice, ct: HloInstruction): Contribution[] {
  const x = operand(it, 0);
  if (elementCount(it.shape) === 0) return toOperands(it, () => filled(x, 0));
  const high = arrayOf(x).dims.map((size, d) => {
    const last = at(it.starts, d) + (at(it.shape.dims, d) - 1) * at(it.strides, d);
    return size - 1 - last;
  });
  const padding = { low: it.starts, high, interior: it.strides.map((stride) => stride - 1) };
  return toOperands(it, () => pad(ct, scalar(it.shape.type, 0), padding));
}

/**
 * Returns the cotangents of a pad's operands. The cotangent of the array is `ct` at the places
 * where the pad puts the elements of the array. The cotangent of the padding value is the sum of
 * `ct` over the padding.
 */
export function padRule(it: Pad, ct: HloInstruction): Contribution[] {
  return toOperands(
    it,
    () => unpadded(it, ct),
    () => reduceSum(multiply(ct, paddingMask(it)), indices(it.shape.dims)),
  );
}

/** Returns the elements of `ct` at the places where the pad put elements of its operand. */
function unpadded(it: Pad, ct: HloInstruction): HloInstruction {
  const none = it.low.map(() => 0);
  const low = it.low.map((n) => -n);
  const high = it.high.map((n) => -n);
  const cut = pad(ct, scalar(it.shape.type, 0), { low, high, interior: none });
  if (it.interior.every((n) => n === 0)) return cut;
  const strides = it.interior.map((n) => n + 1);
  return slice(cut, none, arrayOf(cut).dims, strides);
}

/**
 * Returns a mask with the shape of the pad's result: 1 on padding, 0 on elements of the operand.
 */
function paddingMask(it: Pad): HloInstruction {
  return pad(filled(operand(it, 0), 0), scalar(it.shape.type, 1), it);
}

/**
 * Returns the cotangent of each operand of a concatenate: the part of `ct` at the place of the
 * operand in the result.
 */
export function concatenateRule(it: Concatenate, ct: HloInstruction): Contribution[] {
  let next = 0;
  const parts = it.operands.map((x) => {
    const size = at(arrayOf(x).dims, it.dimension);
    const first = next;
    next += size;
    const starts = it.shape.dims.map((_, d) => (d === it.dimension ? first : 0));
    const limits = it.shape.dims.map((n, d) => (d === it.dimension ? first + size : n));
    return () => slice(ct, starts, limits);
  });
  return toOperands(it, ...parts);
}

/** Cotangent of a reverse's operand: `ct`, reversed along the same dimensions. */
export function reverseRule(it: Reverse, ct: HloInstruction): Contribution[] {
  return toOperands(it, () => reverse(ct, it.dimensions));
}

/**
 * If `target` (a bound of a clamp) is a scalar, returns the sum of all elements of `x`; otherwise
 * returns `x` itself. A scalar bound acts on every element, so the cotangent of the bound is the
 * sum over all elements.
 */
export function sumToScalar(x: HloInstruction, target: HloInstruction): HloInstruction {
  return arrayOf(target).dims.length === 0 ? sumOver(x, indices(arrayOf(x).dims)) : x;
}

/** Returns the sum of `x` over `dimensions`, or `x` itself if `dimensions` is empty. */
export function sumOver(x: HloInstruction, dimensions: readonly number[]): HloInstruction {
  return dimensions.length === 0 ? x : reduceSum(x, dimensions);
}

/** Transposes `x`, or returns `x` itself if the permutation is the identity. */
export function permuted(x: HloInstruction, permutation: readonly number[]): HloInstruction {
  return permutation.every((from, to) => from === to) ? x : transpose(x, permutation);
}

/** Returns the permutation that undoes `permutation`. */
export function inverse(permutation: readonly number[]): number[] {
  return permutation.map((_, d) => permutation.indexOf(d));
}

/** Returns the indices of `dims`: 0, 1, …, dims.length − 1. */
export function indices(dims: readonly number[]): number[] {
  return dims.map((_, d) => d);
}

/**
 * Returns how many places `size` elements span, from the first to the last element, if neighbours
 * are `dilation` places apart. 0 elements span 0 places.
 */
export function dilated(size: number, dilation: number): number {
  return size === 0 ? 0 : (size - 1) * dilation + 1;
}
