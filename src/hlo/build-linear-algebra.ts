import { make } from './build.ts';
import type { Cholesky, HloInstruction, TriangularSolve } from './instruction.ts';

/* Builders of the operations on matrices, which are the last two dimensions of arrays. */

/**
 * The Cholesky decomposition of symmetric matrices: the lower triangle L with a = L·Lᵀ, or the upper
 * triangle U with a = Uᵀ·U.
 */
export function cholesky(a: HloInstruction, isLower = true): Cholesky {
  return make<Cholesky>({ opcode: 'cholesky', operands: [a], isLower });
}

/** Attributes of a triangular solve. By default, it solves a·x = b for a lower triangle a. */
export type TriangularSolveOptions = Partial<
  Pick<TriangularSolve, 'isLeftSide' | 'isLower' | 'hasUnitDiagonal' | 'transpose'>
>;

/** The solution x of op(a)·x = b, or of x·op(a) = b, where a is a triangle. */
export function triangularSolve(
  a: HloInstruction,
  b: HloInstruction,
  options: TriangularSolveOptions = {},
): TriangularSolve {
  return make<TriangularSolve>({
    opcode: 'triangular-solve',
    operands: [a, b],
    isLeftSide: options.isLeftSide ?? true,
    isLower: options.isLower ?? true,
    hasUnitDiagonal: options.hasUnitDiagonal ?? false,
    transpose: options.transpose ?? 'NO_TRANSPOSE',
  });
}
