import { at } from '../../numerics/assert.ts';
import { PodError } from '../../numerics/error.ts';
import { type Literal, storage, writable } from '../../numerics/literal.ts';
import { type ArrayShape, elementCount, shapeText, stridesOf } from '../../numerics/shape.ts';
import { forEachIndex, gathered, wordsOf } from './value.ts';

/*
 * Values of collectives within one group. An argument `values` has one array for each member of the
 * group, in the order of the group. No operation here changes the bits of an element.
 */

/** Joins arrays of one shape along a dimension. */
export function joined(shape: ArrayShape, values: readonly Literal[], dimension: number): Literal {
  const { dims } = at(values, 0).shape;
  const size = at(dims, dimension);
  expectWhole(shape, size * values.length, dimension, values.length);
  const strides = stridesOf(dims);
  const data = storage(shape.type, elementCount(shape));
  const into = writable(wordsOf({ data }));
  const words = values.map(wordsOf);
  forEachIndex(shape.dims, (index, flat) => {
    const member = Math.floor(index[dimension]! / size);
    const from = index.reduce((sum, n, d) => sum + n * strides[d]!, 0);
    into[flat] = words[member]![from - member * size * strides[dimension]!]!;
  });
  return { shape, data };
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
  const strides = stridesOf(value.shape.dims);
  const from = new Float64Array(elementCount(shape));
  const start = index * size * at(strides, dimension);
  forEachIndex(shape.dims, (place, flat) => {
    from[flat] = place.reduce((sum, n, d) => sum + n * strides[d]!, start);
  });
  return gathered(shape, value, from);
}

/**
 * Exchanges parts: each member cuts its array into one part for each member, and gets the parts that
 * are its own, joined in the order of the group.
 */
export function exchanged(values: readonly Literal[], dimension: number): readonly Literal[] {
  const { shape } = at(values, 0);
  const count = values.length;
  const size = at(shape.dims, dimension) / count;
  expectWhole(shape, Math.floor(size) * count, dimension, count);
  const dims = shape.dims.map((n, d) => (d === dimension ? size : n));
  return values.map((_, index) => {
    const parts = values.map((value) =>
      part({ ...shape, dims }, value, dimension, { index, count }),
    );
    return joined(shape, parts, dimension);
  });
}

/** Returns an array of zeros. */
export function zeros(shape: ArrayShape): Literal {
  return { shape, data: storage(shape.type, elementCount(shape)) };
}

function expectWhole(shape: ArrayShape, found: number, dimension: number, members: number): void {
  if (shape.dims[dimension] === found) return;
  const what = `${shapeText(shape)} in equal parts along dimension ${dimension}`;
  throw new PodError('bad-program', `expected ${what} for ${members} replicas of a group`);
}
