import { assert } from './assert.ts';
import {
  type ElementType,
  elementTypes,
  type NumberArray,
  type NumberTraits,
} from './element-type.ts';
import { type ArrayShape, arrayShape, elementCount, shapeText } from './shape.ts';

/**
 * A dense array of values in row-major order. Several users may share a literal, so its values must
 * not be changed.
 */
export interface Literal {
  readonly shape: ArrayShape;
  readonly data: NumberArray;
}

/** A value with its path in the model, such as `conv1/kernel`. */
export interface NamedLiteral {
  readonly name: string;
  readonly value: Literal;
}

/** Returns storage for `count` elements, all zero. */
export function storage(type: ElementType, count: number): NumberArray {
  return numbersOfType(type).storage(count);
}

/** Returns how a type stores numbers. The type must store its elements as numbers (asserted). */
export function numbersOfType(type: ElementType): NumberTraits {
  const { numbers } = elementTypes[type];
  assert(numbers !== undefined, `elements of ${type} are numbers of JavaScript`);
  return numbers;
}

/**
 * Makes a literal from `values`, which are converted to the element type `type`. Floats are
 * rounded to the nearest element, a bf16 as the hardware rounds it; integers wrap.
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
  const { encode } = numbersOfType(type);
  for (let i = 0; i < count; i++) data[i] = encode(values[i]!);
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
  return numbersOfType(shape.type).decode(data[i]!);
}

/** Returns all elements as numbers, in row-major order. */
export function valuesOf(it: Literal): number[] {
  return Array.from(it.data, (_, i) => valueAt(it, i));
}
