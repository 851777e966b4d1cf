import type { LinkCauses } from '../../src/experiment/link-causes.ts';

/** Stands for a step in which no Cloud TPU has measured how long it waited for frames. */
export const unknownCauses: LinkCauses = { heldUpMs: [], longest: [] };
