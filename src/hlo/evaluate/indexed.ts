import { at } from '../../numerics/assert.ts';
import { type Literal, scalarAt, writable } from '../../numerics/literal.ts';
import { type ArrayShape, stridesOf } from '../../numerics/shape.ts';
import { sliceOf } from './rearranging.ts';
import { forEachIndex, wordsOf } from './value.ts';

/*
 * Slices whose place is computed at run time. The start along each dimension is clamped, so that the
 * slice lies inside the array. No operation here changes the bits of an element.
 */

/** Returns the slice of `operand` with the given shape. `starts` has one scalar for each dimension. */
export function dynamicSliceOf(
  shape: ArrayShape,
  operand: Literal,
  starts: readonly Literal[],
): Literal {
  const strides = shape.dims.map(() => 1);
  return sliceOf({ shape, starts: clamped(starts, operand.shape, shape), strides }, operand);
}

/** Returns `operand` with the slice at `starts` replaced by `update`. */
export function dynamicUpdateSliceOf(
  operand: Literal,
  update: Literal,
  starts: readonly Literal[],
): Literal {
  const { shape } = operand;
  const data = operand.data.slice();
  const into = writable(wordsOf({ data }));
  const words = wordsOf(update);
  const strides = stridesOf(shape.dims);
  const first = clamped(starts, shape, update.shape);
  forEachIndex(update.shape.dims, (index, flat) => {
    into[index.reduce((place, n, d) => place + (first[d]! + n) * strides[d]!, 0)] = words[flat]!;
  });
  return { shape, data };
}

/** Returns where a slice starts along each dimension of the array `whole`. */
function clamped(
  starts: readonly Literal[],
  whole: ArrayShape,
  slice: ArrayShape,
): readonly number[] {
  return starts.map((start, d) => {
    const last = at(whole.dims, d) - at(slice.dims, d);
    return Math.min(Math.max(Number(scalarAt(start, 0)), 0), last);
  });
}
