import type { Lowerings } from './lowering.ts';

const plain = 'no unit of the core computes a whole batch norm';

/**
 * Lowering of the batch norms. The pass `canonicalize` expands the batch norms of the entry
 * computation, so only those in loops and branches come here.
 */
export const normalization: Lowerings<
  'batch-norm-training' | 'batch-norm-inference' | 'batch-norm-grad'
> = {
  'batch-norm-training': { plain },
  'batch-norm-inference': { plain },
  'batch-norm-grad': { plain },
};
