import { at } from '../../numerics/assert.ts';
import { PodError } from '../../numerics/error.ts';
import type { Literal } from '../../numerics/literal.ts';
import { type ArrayShape, shapeText } from '../../numerics/shape.ts';
import { concatenateOf, sliceOf } from './rearranging.ts';

/*
 * Values of collectives within one group. An argument `values` has one array for each member of the
 * group, in the order of the group. No operation here changes the bits of an element.
 */

/** Joins arrays of one shape along a dimension. */
export function joined(shape: ArrayShape, values: readonly Literal[], dimension: number): Literal {
  const size = at(at(values, 0).shape.dims, dimension);
  expectWhole(shape, size * values.length, dimension, values.length);
  return concatenateOf({ shape, dimension }, values);
}

/** Returns part `index` of an array that is cut into `count` equal parts along a dimension. */
export function part(
  shape: ArrayShape,
  value: Literal,
  dimension: number,
  { index, count }: { readonly index: number; readonly count: number },
): Literal {
  const size = at(shape.dims, dimension);
  expectWhole(value.shape, size * count, dimension, count);
  const starts = shape.dims.map((_, d) => (d === dimension ? index * size : 0));
  return sliceOf({ shape, starts, strides: starts.map(() => 1) }, value);
}

/**
 * Exchanges parts: each member cuts its array into one part for each member, and gets the parts that
 * are its own, joined in the order of the group.
 */
export function exchanged(values: readonly Literal[], dimension: number): readonly Literal[] {
  const { shape } = at(values, 0);
  const count = values.length;
  const size = Math.floor(at(shape.dims, dimension) / count);
  const one = { ...shape, dims: shape.dims.with(dimension, size) };
  return values.map((_, index) => {
    const parts = values.map((value) => part(one, value, dimension, { index, count }));
    return joined(shape, parts, dimension);
  });
}

function expectWhole(shape: ArrayShape, found: number, dimension: number, members: number): void {
  if (shape.dims[dimension] === found) return;
  const what = `${shapeText(shape)} in equal parts along dimension ${dimension}`;
  throw new PodError('bad-program', `expected ${what} for ${members} replicas of a group`);
}
