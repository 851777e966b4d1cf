import { assert } from './assert.ts';
import { bf16FromF32, f32FromBf16 } from './bf16.ts';
import type { ElementType } from './element-type.ts';
import { type ArrayShape, arrayShape, elementCount, shapeText } from './shape.ts';

/** Elements of an array in memory. A `bf16` is stored as its 16 bits, a `pred` as 0 or 1. */
export type LiteralData = Float32Array | Int32Array | Uint32Array | Uint16Array | Uint8Array;

/**
 * A dense array of values in row-major order. Several users may share a literal, so its values must
 * not be changed.
 */
export interface Literal {
  readonly shape: ArrayShape;
  readonly data: LiteralData;
}

/** A value with its path in the model, such as `conv1/kernel`. */
export interface NamedLiteral {
  readonly name: string;
  readonly value: Literal;
}

/** Returns storage for `count` elements, all zero. */
export function storage(type: ElementType, count: number): LiteralData {
  switch (type) {
    case 'f32':
      return new Float32Array(count);
    case 's32':
      return new Int32Array(count);
    case 'u32':
      return new Uint32Array(count);
    case 'bf16':
      return new Uint16Array(count);
    case 'pred':
      return new Uint8Array(count);
    default:
      return assert(false, `no storage for ${type}`) as never;
  }
}

/**
 * Makes a literal from `values`, which are converted to the element type `type`. For bf16, the
 * values are rounded as the hardware rounds them.
 */
export function literal(
  type: ElementType,
  dims: readonly number[],
  values: ArrayLike<number>,
): Literal {
  const shape = arrayShape(type, dims);
  const count = elementCount(shape);
  assert(values.length === count, `${values.length} values do not fill ${shapeText(shape)}`);
  const data = storage(type, count);
  for (let i = 0; i < count; i++) data[i] = type === 'bf16' ? bf16FromF32(values[i]!) : values[i]!;
  return { shape, data };
}

/** Returns a view of the memory of a literal as bytes, not a copy. */
export function bytesOf({ data }: Pick<Literal, 'data'>): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

/** Makes a literal whose elements have the bits `bytes`. The bytes are copied. */
export function literalOfBytes(shape: ArrayShape, bytes: Uint8Array): Literal {
  const data = storage(shape.type, elementCount(shape));
  bytesOf({ data }).set(bytes);
  return { shape, data };
}

/** Returns the element at row-major index `i` as a number. */
export function valueAt({ shape, data }: Literal, i: number): number {
  return shape.type === 'bf16' ? f32FromBf16(data[i]!) : data[i]!;
}

/** Returns all elements as numbers, in row-major order. */
export function valuesOf(it: Literal): number[] {
  return Array.from(it.data, (_, i) => valueAt(it, i));
}
