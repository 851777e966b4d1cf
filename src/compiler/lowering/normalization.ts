import type { Lowerings } from './lowering.ts';

/**
 * Lowering of the batch norms. The pass `canonicalize` expands the batch norms of the entry
 * computation, so only those in loops and branches come here.
 */
export const normalization: Lowerings<
  'batch-norm-training' | 'batch-norm-inference' | 'batch-norm-grad'
> = {
  'batch-norm-training': { plain: 'no unit of the core computes a whole batch norm' },
  'batch-norm-inference': { plain: 'no unit of the core computes a whole batch norm' },
  'batch-norm-grad': { plain: 'no unit of the core computes a whole batch norm' },
};
