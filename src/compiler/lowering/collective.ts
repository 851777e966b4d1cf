import type { Lowerings } from './lowering.ts';

/** Lowering of the collectives. The class `Buckets` (buckets.ts) adds the steps of an all-reduce. */
export const collective: Lowerings<'all-reduce'> = {
  'all-reduce': { unit: (it, to) => to.startAllReduce(it) },
};
