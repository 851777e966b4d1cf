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
  Transpose,
} from '../hlo/instruction.ts';
import { at } from '../numerics/assert.ts';
import { elementTypes } from '../numerics/element-type.ts';
import { elementCount } from '../numerics/shape.ts';
import { filled } from './fill.ts';
import { arrayOf, type Contribution, operand, toOperands } from './rule.ts';

/** Cotangents of a convert: converted back; none where the operand has no derivative. */
export function convertRule(it: Convert, ct: HloInstruction): Contribution[] {
  const { type } = arrayOf(operand(it, 0));
  if (elementTypes[type].kind !== 'float') return [];
  return toOperands(it, () => convert(ct, type));
}

/** Sums over what was repeated. */
export function broadcastRule(it: Broadcast, ct: HloInstruction): Contribution[] {
  const repeated = indices(it.shape.dims).filter((d) => !it.dimensions.includes(d));
  const kept = it.dimensions.toSorted((a, b) => a - b);
  const order = it.dimensions.map((d) => kept.indexOf(d));
  return toOperands(it, () => permuted(sumOver(ct, repeated), order));
}

/** Cotangents of a reshape: reshaped back. */
export function reshapeRule(it: Reshape, ct: HloInstruction): Contribution[] {
  return toOperands(it, () => reshape(ct, arrayOf(operand(it, 0)).dims));
}

/** Cotangents of a transpose: transposed back. */
export function transposeRule(it: Transpose, ct: HloInstruction): Contribution[] {
  return toOperands(it, () => permuted(ct, inverse(it.permutation)));
}

/** Back into place, zeros around and between. */
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

/** Cotangents of a pad: of the array, what lies in its places; of the value, the sum of the rest. */
export function padRule(it: Pad, ct: HloInstruction): Contribution[] {
  return toOperands(
    it,
    () => unpadded(it, ct),
    () => reduceSum(multiply(ct, paddingMask(it)), indices(it.shape.dims)),
  );
}

/** What of the cotangent lies on elements of the operand. */
function unpadded(it: Pad, ct: HloInstruction): HloInstruction {
  const none = it.low.map(() => 0);
  const low = it.low.map((n) => -n);
  const high = it.high.map((n) => -n);
  const cut = pad(ct, scalar(it.shape.type, 0), { low, high, interior: none });
  if (it.interior.every((n) => n === 0)) return cut;
  const strides = it.interior.map((n) => n + 1);
  return slice(cut, none, arrayOf(cut).dims, strides);
}

/** 1 on padding, 0 on elements of the operand. */
function paddingMask(it: Pad): HloInstruction {
  return pad(filled(operand(it, 0), 0), scalar(it.shape.type, 1), it);
}

/** Cotangents of a concatenate: the part of each operand. */
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

/** Cotangents of a reverse: reversed. */
export function reverseRule(it: Reverse, ct: HloInstruction): Contribution[] {
  return toOperands(it, () => reverse(ct, it.dimensions));
}

/** The sum of all of `x` when `target` is a scalar and `x` is not, else `x`. */
export function sumToScalar(x: HloInstruction, target: HloInstruction): HloInstruction {
  return arrayOf(target).dims.length === 0 ? sumOver(x, indices(arrayOf(x).dims)) : x;
}

/** The sum along `dimensions`; x itself when there are none. */
export function sumOver(x: HloInstruction, dimensions: readonly number[]): HloInstruction {
  return dimensions.length === 0 ? x : reduceSum(x, dimensions);
}

/** `transpose`, unless it changes nothing. */
export function permuted(x: HloInstruction, permutation: readonly number[]): HloInstruction {
  return permutation.every((from, to) => from === to) ? x : transpose(x, permutation);
}

/** The permutation that undoes `permutation`. */
export function inverse(permutation: readonly number[]): number[] {
  return permutation.map((_, d) => permutation.indexOf(d));
}

/** 0, 1, … for each dimension. */
export function indices(dims: readonly number[]): number[] {
  return dims.map((_, d) => d);
}

/** How far `size` elements reach that lie `dilation` apart. */
export function dilated(size: number, dilation: number): number {
  return size === 0 ? 0 : (size - 1) * dilation + 1;
}
