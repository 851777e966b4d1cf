import type { Lowerings } from './lowering.ts';

const plain = 'the addresses of a loop are fixed when it is compiled';

/** Lowering of slices whose place is computed at run time. */
export const indexed: Lowerings<'dynamic-slice' | 'dynamic-update-slice'> = {
  'dynamic-slice': { plain },
  'dynamic-update-slice': { plain },
};
