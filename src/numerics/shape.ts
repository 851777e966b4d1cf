import { type ElementType, elementBytes } from './element-type.ts';

/** Shape of a dense array in row-major order, outermost dimension first. `dims: []` is a scalar. */
export interface ArrayShape {
  readonly type: ElementType;
  readonly dims: readonly number[];
}
/** Shape of a tuple: several values, possibly nested, that an instruction returns as one. */
export interface TupleShape {
  readonly type: 'tuple';
  readonly elements: readonly Shape[];
}
/** Shape of a token. A token carries no data; it orders instructions with side effects. */
export interface TokenShape {
  readonly type: 'token';
}
/** Shape of an instruction's result. */
export type Shape = ArrayShape | TupleShape | TokenShape;

/** Makes the shape of an array. */
export function arrayShape(type: ElementType, dims: readonly number[]): ArrayShape {
  return { type, dims };
}
/** Makes the shape of a tuple. */
export function tupleShape(elements: readonly Shape[]): TupleShape {
  return { type: 'tuple', elements };
}
/** True if the shape is an array: neither a tuple nor a token. */
export function isArray(shape: Shape): shape is ArrayShape {
  return shape.type !== 'tuple' && shape.type !== 'token';
}
/** Number of elements of an array. A scalar has 1. */
export function elementCount(shape: ArrayShape): number {
  return product(shape.dims);
}
/** Bytes of an array without padding. */
export function byteCount(shape: ArrayShape): number {
  return elementCount(shape) * elementBytes(shape.type);
}
/** Returns the product of all sizes, or 1 for an empty list. */
export function product(sizes: readonly number[]): number {
  return sizes.reduce((count, size) => count * size, 1);
}
/**
 * Returns the stride of each dimension of an array in row-major order. The stride of a dimension is
 * the distance, in elements, of two elements whose indexes differ by 1 in this dimension and are
 * equal in all other dimensions.
 */
export function stridesOf(dims: readonly number[]): number[] {
  const strides = new Array<number>(dims.length).fill(1);
  for (let d = dims.length - 2; d >= 0; d--) strides[d] = strides[d + 1]! * dims[d + 1]!;
  return strides;
}
/** Returns the dimensions of an array of the given rank that are not in `used`, in order. */
export function otherDimensions(rank: number, used: readonly number[]): number[] {
  return Array.from({ length: rank }, (_, d) => d).filter((d) => !used.includes(d));
}
/** Returns the arrays and tokens in a shape, depth first. An array or a token is its own only leaf. */
export function leafShapes(shape: Shape): Exclude<Shape, TupleShape>[] {
  return shape.type === 'tuple' ? shape.elements.flatMap(leafShapes) : [shape];
}
/** True if two lists of dimensions are equal. */
export function sameDims(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((size, d) => size === b[d]);
}
/** True if two shapes are equal, element types included. */
export function sameShape(a: Shape, b: Shape): boolean {
  if (a.type === 'tuple' && b.type === 'tuple') {
    const other = b.elements;
    return (
      a.elements.length === other.length && a.elements.every((it, i) => sameShape(it, other[i]!))
    );
  }
  if (!isArray(a) || !isArray(b)) return a.type === b.type;
  return a.type === b.type && sameDims(a.dims, b.dims);
}
/** Returns a shape in XLA's notation, such as `f32[8,128]` or `(f32[], token[])`. */
export function shapeText(shape: Shape): string {
  if (shape.type === 'tuple') return `(${shape.elements.map(shapeText).join(', ')})`;
  if (shape.type === 'token') return 'token[]';
  return `${shape.type}[${shape.dims.join(',')}]`;
}
