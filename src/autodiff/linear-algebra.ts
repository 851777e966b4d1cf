import { add, compare, dot, iota, multiply, negate, select, transpose } from '../hlo/build.ts';
import { triangularSolve } from '../hlo/build-linear-algebra.ts';
import type { Cholesky, Compare, HloInstruction, TriangularSolve } from '../hlo/instruction.ts';
import { arrayShape } from '../numerics/shape.ts';
import { filled } from './fill.ts';
import { arrayOf, type Contribution, operand, toOperands } from './rule.ts';
import { indices } from './shape.ts';

/* Below, the last two dimensions of an array are matrices, and the others a batch of them. */

/**
 * Returns the cotangent of the matrix A of a Cholesky decomposition. Let L be the result, C its
 * cotangent, P the lower triangle of Lᵀ·C with half of its diagonal, and S = L⁻ᵀ·P·L⁻¹. A is
 * symmetric, and the decomposition reads only one of its triangles. So each element of this triangle
 * gets the cotangents of two equal elements: the triangle of S + Sᵀ, with the diagonal of S. The other
 * triangle gets 0. [Murray 2016, "Differentiation of the Cholesky decomposition"]
 */
export function choleskyRule(it: Cholesky, ct: HloInstruction): Contribution[] {
  return toOperands(it, () => {
    if (it.isLower) return byLowerTriangle(it, ct);
    return transposed(byLowerTriangle(transposed(it), transposed(ct)));
  });
}

function byLowerTriangle(l: HloInstruction, ct: HloInstruction): HloInstruction {
  const p = halfDiagonal(triangle(product(transposed(l), ct), 'GE'));
  const left = triangularSolve(l, p, { transpose: 'TRANSPOSE' });
  const s = triangularSolve(l, left, { isLeftSide: false });
  return halfDiagonal(triangle(add(s, transposed(s)), 'GE'));
}

/**
 * Returns the cotangents of the operands of a triangular solve. The cotangent of B is the solution
 * of the transposed equations for the cotangent of X. For op(A)·X = B, the cotangent of op(A) is
 * −(cotangent of B)·Xᵀ; for X·op(A) = B it is −Xᵀ·(cotangent of B). The solve reads one triangle of
 * A, so only this triangle of the cotangent of A is not zero.
 */
export function triangularSolveRule(it: TriangularSolve, ct: HloInstruction): Contribution[] {
  const { isLeftSide, isLower, hasUnitDiagonal } = it;
  const isPlain = it.transpose === 'NO_TRANSPOSE';
  const options = { isLeftSide, isLower, hasUnitDiagonal };
  const bCt = triangularSolve(operand(it, 0), ct, {
    ...options,
    transpose: isPlain ? 'TRANSPOSE' : 'NO_TRANSPOSE',
  });
  const ofTransposed = isLeftSide ? product(it, transposed(bCt)) : product(transposed(bCt), it);
  const whole = negate(isPlain ? transposed(ofTransposed) : ofTransposed);
  const strict = hasUnitDiagonal ? 'GT' : 'GE';
  const mirrored = hasUnitDiagonal ? 'LT' : 'LE';
  return toOperands(
    it,
    () => triangle(whole, isLower ? strict : mirrored),
    () => bCt,
  );
}

/** Returns the product of two matrices, in full precision. */
function product(a: HloInstruction, b: HloInstruction): HloInstruction {
  const rank = arrayOf(a).dims.length;
  const batch = indices(arrayOf(a).dims).slice(0, -2);
  const dimensions = {
    ...{ lhsBatch: batch, rhsBatch: batch },
    ...{ lhsContracting: [rank - 1], rhsContracting: [rank - 2] },
  };
  return dot(a, b, dimensions, 'highest');
}

function transposed(x: HloInstruction): HloInstruction {
  const rank = arrayOf(x).dims.length;
  return transpose(x, [...indices(arrayOf(x).dims).slice(0, -2), rank - 1, rank - 2]);
}

/** Keeps the elements whose row and column compare as given, and makes the others 0. */
function triangle(x: HloInstruction, rowToColumn: Compare['direction']): HloInstruction {
  return select(compared(x, rowToColumn), x, filled(x, 0));
}

function halfDiagonal(x: HloInstruction): HloInstruction {
  return select(compared(x, 'EQ'), multiply(x, filled(x, 0.5)), x);
}

/** Compares the row of each element with its column. */
function compared(x: HloInstruction, direction: Compare['direction']): HloInstruction {
  const { dims } = arrayOf(x);
  const places = arrayShape('s32', dims);
  const [row, column] = [dims.length - 2, dims.length - 1].map((d) => iota(places, d));
  return compare(direction, row!, column!);
}
