import { at } from '../../numerics/assert.ts';
import { elementTypes } from '../../numerics/element-type.ts';
import { unsignedBits } from '../../numerics/integer-bits.ts';
import {
  bytesOf,
  type Literal,
  literalFrom,
  literalOfBytes,
  storage,
  writable,
} from '../../numerics/literal.ts';
import { type ArrayShape, elementCount, stridesOf } from '../../numerics/shape.ts';
import type { Broadcast, Concatenate, Pad, Reverse, Slice, Transpose } from '../instruction.ts';
import { forEachIndex, gathered, wordsOf } from './value.ts';

/* Operations that move elements and do not change their bits. */

/** Evaluates an iota of the given shape. */
export function iotaOf(shape: ArrayShape, dimension: number): Literal {
  const stride = at(stridesOf(shape.dims), dimension);
  return literalFrom(shape, (i) => Math.floor(i / stride) % at(shape.dims, dimension));
}

/**
 * Rearranges the elements of the operand into an array of the given shape. For the element of the
 * result with the indices `index`, `source(index)` is the row-major offset, in the operand, of the
 * element to put there.
 */
function rearranged(
  shape: ArrayShape,
  operand: Literal,
  source: (index: readonly number[]) => number,
): Literal {
  const from = new Float64Array(elementCount(shape));
  forEachIndex(shape.dims, (index, flat) => {
    from[flat] = source(index);
  });
  return gathered(shape, operand, from);
}

/** Evaluates a broadcast. */
export function broadcastOf({ shape, dimensions }: Broadcast, operand: Literal): Literal {
  const strides = stridesOf(operand.shape.dims);
  return rearranged(shape, operand, (index) =>
    dimensions.reduce((flat, d, i) => flat + index[d]! * strides[i]!, 0),
  );
}

/** Evaluates a transpose. */
export function transposeOf({ shape, permutation }: Transpose, operand: Literal): Literal {
  const strides = stridesOf(operand.shape.dims);
  return rearranged(shape, operand, (index) =>
    permutation.reduce((flat, d, i) => flat + index[i]! * strides[d]!, 0),
  );
}

/** Evaluates a slice. */
export function sliceOf(
  it: Pick<Slice, 'shape' | 'starts' | 'strides'>,
  operand: Literal,
): Literal {
  const strides = stridesOf(operand.shape.dims);
  return rearranged(it.shape, operand, (index) =>
    index.reduce((flat, n, d) => flat + (it.starts[d]! + n * it.strides[d]!) * strides[d]!, 0),
  );
}

/** Evaluates a reverse. */
export function reverseOf({ shape, dimensions }: Reverse, operand: Literal): Literal {
  const strides = stridesOf(shape.dims);
  return rearranged(shape, operand, (index) =>
    index.reduce((flat, n, d) => {
      const place = dimensions.includes(d) ? shape.dims[d]! - 1 - n : n;
      return flat + place * strides[d]!;
    }, 0),
  );
}

/** Evaluates a pad. `value` is the scalar for the padding. */
export function padOf(it: Pad, operand: Literal, value: Literal): Literal {
  const { dims } = operand.shape;
  const strides = stridesOf(dims);
  const from = new Float64Array(elementCount(it.shape));
  forEachIndex(it.shape.dims, (index, flat) => {
    from[flat] = index.reduce((offset, n, d) => {
      const place = n - it.low[d]!;
      const step = it.interior[d]! + 1;
      const inside = place >= 0 && place % step === 0 && place / step < dims[d]!;
      return offset < 0 || !inside ? -1 : offset + (place / step) * strides[d]!;
    }, 0);
  });
  return gathered(it.shape, operand, from, value);
}

/** Evaluates a select. */
export function selectOf(
  shape: ArrayShape,
  predicate: Literal,
  onTrue: Literal,
  onFalse: Literal,
): Literal {
  const data = storage(shape.type, elementCount(shape));
  const into = writable(wordsOf({ data }));
  const [whenTrue, whenFalse] = [wordsOf(onTrue), wordsOf(onFalse)];
  for (let i = 0; i < data.length; i++) {
    into[i] = (predicate.data[i] === 0 ? whenFalse : whenTrue)[i]!;
  }
  return { shape, data };
}

/** Evaluates a concatenate. */
export function concatenateOf(
  it: Pick<Concatenate, 'shape' | 'dimension'>,
  operands: readonly Literal[],
): Literal {
  const { shape, dimension } = it;
  const data = storage(shape.type, elementCount(shape));
  const into = writable(wordsOf({ data }));
  const strides = stridesOf(shape.dims);
  let start = 0;
  for (const operand of operands) {
    const words = wordsOf(operand);
    forEachIndex(operand.shape.dims, (index, flat) => {
      const place = index.reduce((offset, n, d) => offset + n * strides[d]!, 0);
      into[place + start * strides[dimension]!] = words[flat]!;
    });
    start += at(operand.shape.dims, dimension);
  }
  return { shape, data };
}

/** Evaluates a reshape: the same elements with other dimensions. */
export function reshapeOf(shape: ArrayShape, { data }: Literal): Literal {
  return { shape, data };
}

/**
 * Evaluates a bitcast-convert: the same bits as elements of another type. If the widths differ, the
 * first of several narrow elements has the lowest bits of the wide element.
 */
export function bitcastOf(shape: ArrayShape, operand: Literal): Literal {
  const bytes = packed(operand);
  const { bits } = elementTypes[shape.type];
  if (bits >= 8) return literalOfBytes(shape, bytes);
  return literalFrom(shape, (i) => unsignedBits(bytes[(i * bits) >> 3]! >> ((i * bits) & 7), bits));
}

/** Returns the bits of all elements without gaps. An array has gaps if its elements are short. */
function packed({ shape, data }: Literal): Uint8Array {
  const { bits } = elementTypes[shape.type];
  if (bits >= 8) return bytesOf({ data });
  const bytes = new Uint8Array(Math.ceil((data.length * bits) / 8));
  for (let i = 0; i < data.length; i++) {
    bytes[(i * bits) >> 3]! |= unsignedBits(Number(data[i]), bits) << ((i * bits) & 7);
  }
  return bytes;
}
