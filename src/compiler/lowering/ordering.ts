import type { Lowerings } from './lowering.ts';

/** Lowering of the operations that put elements in an order. */
export const ordering: Lowerings<'sort' | 'topk'> = {
  sort: { plain: 'no unit of the core sorts' },
  topk: { plain: 'no unit of the core sorts' },
};
