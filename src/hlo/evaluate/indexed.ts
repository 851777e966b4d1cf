import { at } from '../../numerics/assert.ts';
import { type Literal, scalarAt, writable } from '../../numerics/literal.ts';
import { type ArrayShape, elementCount, stridesOf } from '../../numerics/shape.ts';
import { forEachIndex, gathered, wordsOf } from './value.ts';

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
  return gathered(shape, operand, placesOf(operand.shape, shape, starts));
}

/** Returns `operand` with the slice at `starts` replaced by `update`. */
export function dynamicUpdateSliceOf(
  operand: Literal,
  update: Literal,
  starts: readonly Literal[],
): Literal {
  const data = operand.data.slice();
  const into = writable(wordsOf({ data }));
  const words = wordsOf(update);
  placesOf(operand.shape, update.shape, starts).forEach((place, i) => {
    into[place] = words[i]!;
  });
  return { shape: operand.shape, data };
}

/** Returns the row-major index in `whole` of each element of the slice. */
function placesOf(whole: ArrayShape, slice: ArrayShape, starts: readonly Literal[]): Float64Array {
  const strides = stridesOf(whole.dims);
  const first = starts.reduce((sum, start, d) => {
    const last = at(whole.dims, d) - at(slice.dims, d);
    const clamped = Math.min(Math.max(Number(scalarAt(start, 0)), 0), last);
    return sum + clamped * at(strides, d);
  }, 0);
  const places = new Float64Array(elementCount(slice));
  forEachIndex(slice.dims, (index, flat) => {
    places[flat] = index.reduce((place, n, d) => place + n * strides[d]!, first);
  });
  return places;
}
