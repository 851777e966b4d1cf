import { type ElementType, elementBytes } from './element-type.ts';

/** A dense array, row-major, outermost dimension first. `dims: []` is a scalar. */
export interface ArrayShape {
  readonly type: ElementType;
  readonly dims: readonly number[];
}
/** Several values as one. */
export interface TupleShape {
  readonly type: 'tuple';
  readonly elements: readonly Shape[];
}
/** Orders side effects; holds no data. */
export interface TokenShape {
  readonly type: 'token';
}
/** What an instruction gives. */
export type Shape = ArrayShape | TupleShape | TokenShape;

/** The shape of an array. */
export function arrayShape(type: ElementType, dims: readonly number[]): ArrayShape {
  return { type, dims };
}
/** Whether a value is an array, neither tuple nor token. */
export function isArray(shape: Shape): shape is ArrayShape {
  return shape.type !== 'tuple' && shape.type !== 'token';
}
/** Elements of an array; 1 of a scalar. */
export function elementCount(shape: ArrayShape): number {
  return product(shape.dims);
}
/** Bytes of the dense array, without padding. */
export function byteCount(shape: ArrayShape): number {
  return elementCount(shape) * elementBytes(shape.type);
}
/** The product of all sizes; 1 of none. */
export function product(sizes: readonly number[]): number {
  return sizes.reduce((count, size) => count * size, 1);
}
/** How far apart neighbours along each dimension lie, in elements, row-major. */
export function stridesOf(dims: readonly number[]): number[] {
  const strides = new Array<number>(dims.length).fill(1);
  for (let d = dims.length - 2; d >= 0; d--) strides[d] = strides[d + 1]! * dims[d + 1]!;
  return strides;
}
/** Whether two lists of dimensions are equal. */
export function sameDims(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((size, d) => size === b[d]);
}
/** Whether two shapes are equal, element types included. */
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
/** XLA's notation: `f32[8,128]`, `(f32[], token[])`. */
export function shapeText(shape: Shape): string {
  if (shape.type === 'tuple') return `(${shape.elements.map(shapeText).join(', ')})`;
  if (shape.type === 'token') return 'token[]';
  return `${shape.type}[${shape.dims.join(',')}]`;
}
