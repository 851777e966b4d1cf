import type { Lowerings } from './lowering.ts';

const plain = 'the addresses of a loop are fixed when it is compiled';

/** Lowering of slices and windows whose places are computed at run time. */
export const indexed: Lowerings<'dynamic-slice' | 'dynamic-update-slice' | 'gather' | 'scatter'> = {
  'dynamic-slice': { plain },
  'dynamic-update-slice': { plain },
  gather: { plain },
  scatter: { plain },
};
