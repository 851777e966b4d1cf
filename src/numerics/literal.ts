import { assert } from './assert.ts';
import {
  type ElementArray,
  type ElementType,
  elementTypes,
  type Scalar,
  type Stored,
} from './element-type.ts';
import { type ArrayShape, arrayShape, elementCount, shapeText } from './shape.ts';

/**
 * A dense array of values in row-major order. Several users may share a literal, so its values must
 * not be changed.
 */
export interface Literal {
  readonly shape: ArrayShape;
  readonly data: ElementArray;
}

/** A value with its path in the model, such as `conv1/kernel`. */
export interface NamedLiteral {
  readonly name: string;
  readonly value: Literal;
}

/** Returns storage for `count` elements, all zero. */
export function storage(type: ElementType, count: number): ElementArray {
  return storedOf(type).storage(count);
}

/** Returns how a type stores its elements. There must be storage for the type (asserted). */
export function storedOf(type: ElementType): Stored {
  const { stored } = elementTypes[type];
  assert(stored !== undefined, `there is storage for ${type}`);
  return stored;
}

/** Returns the function that turns a value into what memory holds for it in the given type. */
export function encoderOf(type: ElementType): (value: Scalar) => Scalar {
  const stored = storedOf(type);
  if (stored.isWide) return (value) => stored.encode(BigInt(value));
  return (value) => stored.encode(Number(value));
}

/**
 * Makes a literal from `values`, which are converted to the element type `type`. Floats are
 * rounded to the nearest element, a bf16 as the hardware rounds it; integers wrap.
 */
export function literal(
  type: ElementType,
  dims: readonly number[],
  values: ArrayLike<Scalar>,
): Literal {
  const shape = arrayShape(type, dims);
  const count = elementCount(shape);
  assert(values.length === count, `${values.length} values do not fill ${shapeText(shape)}`);
  return literalFrom(shape, (i) => values[i]!);
}

/**
 * Makes a literal of the given shape. `element(i)` is converted to the element type of `shape` and
 * becomes the element with index i.
 */
export function literalFrom(shape: ArrayShape, element: (i: number) => Scalar): Literal {
  const data = storage(shape.type, elementCount(shape));
  const encode = encoderOf(shape.type);
  const into = writable(data);
  for (let i = 0; i < data.length; i++) into[i] = encode(element(i));
  return { shape, data };
}

/**
 * Returns an array as one to which elements can be written. The caller must write elements of the
 * array's own type: bigints to an array of 64-bit integers, numbers to any other.
 */
export function writable(data: ElementArray): { [i: number]: Scalar } {
  return data as unknown as { [i: number]: Scalar };
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

/** Returns the element at row-major index `i`. */
export function scalarAt({ shape, data }: Literal, i: number): Scalar {
  const stored = storedOf(shape.type);
  const element = data[i]!;
  return stored.isWide ? (element as bigint) : stored.decode(element as number);
}

/** Returns the element at row-major index `i` as a number. It must not have 64 bits (asserted). */
export function valueAt(it: Literal, i: number): number {
  const value = scalarAt(it, i);
  assert(typeof value === 'number', `elements of ${it.shape.type} are numbers`);
  return value;
}

/** Returns all elements, in row-major order. */
export function scalarsOf(it: Literal): Scalar[] {
  return Array.from({ length: it.data.length }, (_, i) => scalarAt(it, i));
}

/** Returns all elements as numbers, in row-major order. They must not have 64 bits (asserted). */
export function valuesOf(it: Literal): number[] {
  return Array.from({ length: it.data.length }, (_, i) => valueAt(it, i));
}
