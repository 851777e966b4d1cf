import { assert } from './assert.ts';
import { bf16FromF32, f32FromBf16 } from './bf16.ts';
import type { ElementType } from './element-type.ts';
import { type ArrayShape, arrayShape, elementCount, shapeText } from './shape.ts';

/** How elements lie in memory: `bf16` as its 16 bits, `pred` as 0 or 1. */
export type LiteralData = Float32Array | Int32Array | Uint32Array | Uint16Array | Uint8Array;

/** A dense array of values in row-major order. Values never change once shared. */
export interface Literal {
  readonly shape: ArrayShape;
  readonly data: LiteralData;
}

/** A value and where it belongs, a path such as `conv1/kernel`. */
export interface NamedLiteral {
  readonly name: string;
  readonly value: Literal;
}

/** Storage for `count` elements, zeroed. */
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

/** A literal of the given values; f32 values are rounded, bf16 values as the hardware does. */
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

/** The bytes of a literal as they lie in memory: a view, not a copy. */
export function bytesOf({ data }: Pick<Literal, 'data'>): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

/** The literal whose bytes are `bytes`, which are copied. */
export function literalOfBytes(shape: ArrayShape, bytes: Uint8Array): Literal {
  const data = storage(shape.type, elementCount(shape));
  bytesOf({ data }).set(bytes);
  return { shape, data };
}

/** The number at flat index `i`. */
export function valueAt({ shape, data }: Literal, i: number): number {
  return shape.type === 'bf16' ? f32FromBf16(data[i]!) : data[i]!;
}

/** All values as numbers, in row-major order. */
export function valuesOf(it: Literal): number[] {
  return Array.from(it.data, (_, i) => valueAt(it, i));
}
