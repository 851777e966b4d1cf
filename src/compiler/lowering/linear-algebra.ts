import type { Lowerings } from './lowering.ts';

/** Lowering of the decompositions and solutions of matrices. */
export const linearAlgebra: Lowerings<'cholesky' | 'triangular-solve'> = {
  cholesky: { plain: 'no unit of the core decomposes matrices' },
  'triangular-solve': { plain: 'no unit of the core solves equations' },
};
