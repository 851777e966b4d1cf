import { type ArrayShape, type Shape, sameDims } from '../../numerics/shape.ts';
import { choleskyOf, triangularSolveOf } from '../evaluate/linear-algebra.ts';
import { literalOf } from '../evaluate/value.ts';
import type { Draft, InstructionBase } from '../instruction.ts';
import { field, flag, word } from '../text/attribute.ts';
import { arrayOperand, expect, expectKind, expectOperands } from './check.ts';
import type { Definition, DefinitionsOf } from './definition.ts';

/** Operations on matrices, which are the last two dimensions of arrays. */
export type LinearAlgebra = Cholesky | TriangularSolve;

/**
 * The Cholesky decomposition of symmetric matrices A. Operand: A. With `isLower`, the result is the
 * lower triangle L with A = L·Lᵀ, and only the lower triangle of A is read. Otherwise it is the upper
 * triangle U with A = Uᵀ·U, and only the upper triangle of A is read. The other triangle of the result
 * is 0. If a matrix is not positive definite, its result is NaN. The arithmetic is in f32.
 */
export interface Cholesky extends InstructionBase<'cholesky'> {
  readonly isLower: boolean;
}

/** What is done to a matrix before it is used. For real numbers, an adjoint is a transpose. */
export type Transpose = (typeof transposes)[number];

const transposes = ['NO_TRANSPOSE', 'TRANSPOSE', 'ADJOINT'] as const;

/**
 * Solves systems of equations op(A)·X = B, or X·op(A) = B, for X. Operands: A, B. Result: X. A is a
 * triangle, and op(A) is A, or its transpose. Only one triangle of A is read, and with a unit diagonal
 * not even the diagonal. The arithmetic is in f32.
 */
export interface TriangularSolve extends InstructionBase<'triangular-solve'> {
  /** True for op(A)·X = B. */
  readonly isLeftSide: boolean;
  /** True if A is a lower triangle. */
  readonly isLower: boolean;
  /** True if the diagonal counts as ones. */
  readonly hasUnitDiagonal: boolean;
  readonly transpose: Transpose;
}

const cholesky: Definition<Cholesky> = {
  family: 'linear-algebra',
  attributes: [flag('lower', 'isLower')],
  infer: (it) => {
    expectOperands(it, 1);
    return expectMatrices(it);
  },
  evaluate: (it, [a]) => choleskyOf(it, literalOf(a!)),
};

const triangularSolve: Definition<TriangularSolve> = {
  family: 'linear-algebra',
  attributes: [
    flag('left_side', 'isLeftSide'),
    flag('lower', 'isLower'),
    flag('unit_diagonal', 'hasUnitDiagonal'),
    field('transpose_a', 'transpose', word(transposes)),
  ],
  infer: triangularSolveShape,
  evaluate: (it, [a, b]) => triangularSolveOf(it, literalOf(a!), literalOf(b!)),
};

/** Definitions of {@link LinearAlgebra}. */
export const linearAlgebraDefinitions: DefinitionsOf<LinearAlgebra> = {
  cholesky,
  'triangular-solve': triangularSolve,
};

/** Checks that the first operand holds square matrices of floats, and returns its shape. */
function expectMatrices(it: Draft<LinearAlgebra>): ArrayShape {
  const a = arrayOperand(it, 0);
  expectKind(it, 'float', a);
  const [rows, columns] = a.dims.slice(-2);
  expect(it, columns !== undefined && rows === columns, 'square matrices as operand 0');
  return a;
}

function triangularSolveShape(it: Draft<TriangularSolve>): Shape {
  expectOperands(it, 2);
  const a = expectMatrices(it);
  const b = arrayOperand(it, 1);
  expect(it, a.type === b.type, 'operands of one element type');
  const sameBatch = sameDims(a.dims.slice(0, -2), b.dims.slice(0, -2));
  expect(it, sameBatch && a.dims.length === b.dims.length, 'operands of one batch');
  const n = a.dims.at(-1);
  const side = it.isLeftSide ? 'rows' : 'columns';
  expect(it, b.dims.at(it.isLeftSide ? -2 : -1) === n, `operand 1 with ${n} ${side}`);
  return b;
}
