import { at } from '../../numerics/assert.ts';
import { type Literal, literalFrom, valuesOf } from '../../numerics/literal.ts';
import { product } from '../../numerics/shape.ts';
import type { Cholesky, TriangularSolve } from '../instruction.ts';

/**
 * Evaluates a Cholesky decomposition, matrix by matrix, column by column of the lower triangle. With
 * `lower`, an element is
 *
 *     L[i,j] = (A[i,j] − L[i,0] · L[j,0] − L[i,1] · L[j,1] − … − L[i,j−1] · L[j,j−1]) / L[j,j]
 *
 * and an element of the diagonal is the root of the same difference. The products are subtracted in
 * this order, and every operation is rounded to f32. Without `lower`, the result is the transpose of
 * what this gives for the transpose of A. The other triangle is 0.
 *
 * If the root of a number that is not positive is needed, all elements of the matrix are NaN.
 */
export function choleskyOf({ shape, isLower }: Cholesky, a: Literal): Literal {
  const n = at(shape.dims, shape.dims.length - 1);
  const values = valuesOf(a);
  const result = new Float32Array(values.length);
  for (let start = 0; start < values.length; start += n * n) {
    const place = (i: number, j: number): number => start + (isLower ? i * n + j : j * n + i);
    if (!decompose(values, result, n, place)) result.fill(Number.NaN, start, start + n * n);
  }
  return literalFrom(shape, (i) => result[i]!);
}

/** Returns the offset of the element in row i and column j of a lower triangle. */
type Place = (i: number, j: number) => number;

/** Decomposes one matrix. Returns false if it is not positive definite. */
function decompose(a: readonly number[], l: Float32Array, n: number, place: Place): boolean {
  for (let j = 0; j < n; j++) {
    for (let i = j; i < n; i++) {
      let rest = a[place(i, j)]!;
      for (let k = 0; k < j; k++) {
        rest = Math.fround(rest - Math.fround(l[place(i, k)]! * l[place(j, k)]!));
      }
      if (i === j && !(rest > 0)) return false;
      l[place(i, j)] = i === j ? Math.sqrt(rest) : rest / l[place(j, j)]!;
    }
  }
  return true;
}

/**
 * Evaluates a triangular solve, matrix by matrix. The unknowns of a line (a column of x, or a row for
 * a solve on the right side) are found one after another: from the first to the last if the matrix
 * to the left of the unknowns is a lower triangle, otherwise from the last to the first. With the
 * elements t of that matrix, an unknown is
 *
 *     x[i] = (b[i] − t[i,k] · x[k] − t[i,k′] · x[k′] − …) / t[i,i]
 *
 * where k, k′, … are the unknowns in the order in which they were found. The products are
 * subtracted in this order, and every operation is rounded to f32. With a unit diagonal there is no
 * division.
 */
export function triangularSolveOf(it: TriangularSolve, a: Literal, b: Literal): Literal {
  const { isLeftSide, isLower, hasUnitDiagonal, transpose } = it;
  const [rows, columns] = it.shape.dims.slice(-2) as [number, number];
  const n = isLeftSide ? rows : columns;
  const isSwapped = isLeftSide !== (transpose === 'NO_TRANSPOSE');
  const order = Array.from({ length: n }, (_, i) => (isLower !== isSwapped ? i : n - 1 - i));
  const values = valuesOf(a);
  const x = Float32Array.from(valuesOf(b));
  const [step, lineStep] = isLeftSide ? [columns, 1] : [1, columns];
  for (let batch = 0; batch < product(it.shape.dims.slice(0, -2)); batch++) {
    const matrix = values.slice(batch * n * n, (batch + 1) * n * n);
    const t: Place = (i, k) => matrix[isSwapped ? k * n + i : i * n + k]!;
    for (let line = 0; line < (isLeftSide ? columns : rows); line++) {
      const start = batch * rows * columns + line * lineStep;
      solveLine(x, { start, step }, order, hasUnitDiagonal ? withUnit(t) : t);
    }
  }
  return literalFrom(it.shape, (i) => x[i]!);
}

/** Replaces the right side of the equations of a line by the unknowns. */
function solveLine(
  x: Float32Array,
  { start, step }: { readonly start: number; readonly step: number },
  order: readonly number[],
  t: Place,
): void {
  order.forEach((i, found) => {
    let rest = x[start + i * step]!;
    for (const k of order.slice(0, found)) {
      rest = Math.fround(rest - Math.fround(t(i, k) * x[start + k * step]!));
    }
    x[start + i * step] = rest / t(i, i);
  });
}

/** Returns the same matrix with ones on the diagonal. Division by 1 changes nothing. */
function withUnit(t: Place): Place {
  return (i, k) => (i === k ? 1 : t(i, k));
}
