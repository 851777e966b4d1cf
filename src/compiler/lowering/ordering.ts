import type { Lowerings } from './lowering.ts';

const plain = 'no unit of the core sorts';

/** Lowering of the operations that put elements in an order. */
export const ordering: Lowerings<'sort' | 'topk'> = {
  sort: { plain },
  topk: { plain },
};
