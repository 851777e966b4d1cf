import { assert } from '../../numerics/assert.ts';
import type { ElementType, Scalar } from '../../numerics/element-type.ts';
import {
  encoderOf,
  type Literal,
  storage,
  storedOf,
  valueAt,
  writable,
} from '../../numerics/literal.ts';
import { type ArrayShape, elementCount, stridesOf } from '../../numerics/shape.ts';

/** Value of an instruction: an array, a tuple of values, or a token, which has no data. */
export type Value = Literal | readonly Value[] | 'token';

export function literalOf(value: Value): Literal {
  assert(value !== 'token' && 'shape' in value, 'the value is an array');
  return value;
}

/** Returns all arrays of a value, with nested tuples flattened depth first. */
export function flattened(value: Value): Literal[] {
  if (value === 'token') return [];
  return 'shape' in value ? [value] : value.flatMap(flattened);
}

/**
 * Gathers elements without changing their bits. If `from[i]` is not negative, element i of the
 * result is element `from[i]` of `source`. Otherwise it is element 0 of `other`.
 */
export function gathered(
  shape: ArrayShape,
  source: Literal,
  from: ArrayLike<number>,
  other: Literal = source,
): Literal {
  const data = storage(shape.type, elementCount(shape));
  const into = writable(wordsOf({ data }));
  const [words, others] = [wordsOf(source), wordsOf(other)];
  for (let i = 0; i < data.length; i++) {
    into[i] = from[i]! < 0 ? others[0]! : words[from[i]!]!;
  }
  return { shape, data };
}

/**
 * Returns the elements of an array as they are in memory, f32 as integers. Reason: JavaScript may
 * change the bits of a signalling NaN when it copies a float.
 */
export function wordsOf({ data }: Pick<Literal, 'data'>): Literal['data'] {
  if (!(data instanceof Float32Array)) return data;
  return new Uint32Array(data.buffer, data.byteOffset, data.length);
}

/** Returns all elements as f64, which represents each type exactly that is not of 64 bits. */
export function numbersOf(it: Literal): Float64Array {
  return Float64Array.from({ length: it.data.length }, (_, i) => valueAt(it, i));
}

/**
 * Returns the function that converts a value to an element type: rounds it for a float, and wraps
 * it for an integer.
 */
export function rounderOf(type: ElementType): (value: Scalar) => Scalar {
  const stored = storedOf(type);
  if (stored.isWide) return encoderOf(type);
  return (value) => stored.decode(stored.encode(Number(value)));
}

/**
 * Calls `visit` for each element of an array of dimensions `dims`, in row-major order. `index` has
 * the element's index along each dimension, and `flat` is its row-major index. All calls receive
 * the same array `index`, so `visit` must not keep it.
 */
export function forEachIndex(
  dims: readonly number[],
  visit: (index: readonly number[], flat: number) => void,
): void {
  const index = dims.map(() => 0);
  const count = dims.reduce((n, size) => n * size, 1);
  for (let flat = 0; flat < count; flat++) {
    visit(index, flat);
    for (let d = dims.length - 1; d >= 0; d--) {
      index[d]!++;
      if (index[d]! < dims[d]!) break;
      index[d] = 0;
    }
  }
}

/**
 * Returns the row-major offsets of all elements that have the index 0 along every dimension except
 * those in `chosen`. The offsets are ordered such that the index along the first dimension in
 * `chosen` varies slowest.
 */
export function offsetsAlong(dims: readonly number[], chosen: readonly number[]): number[] {
  const strides = stridesOf(dims);
  const offsets: number[] = [];
  forEachIndex(
    chosen.map((d) => dims[d]!),
    (index) => {
      offsets.push(chosen.reduce((offset, d, i) => offset + index[i]! * strides[d]!, 0));
    },
  );
  return offsets;
}
