import { make } from './build.ts';
import type { Gather, HloComputation, HloInstruction, Placement, Scatter } from './instruction.ts';

/** Where windows lie in an array, see {@link Placement}. Without batching dimensions by default. */
export type Placing = Omit<Placement, 'batchingDims' | 'indicesBatchingDims'> & Partial<Placement>;

/** Windows of `x`, of the given sizes, at the places that `indices` gives. */
export function gather(
  x: HloInstruction,
  indices: HloInstruction,
  placing: Placing,
  sizes: readonly number[],
): Gather {
  return make<Gather>({ opcode: 'gather', operands: [x, indices], sizes, ...whole(placing) });
}

/** `arrays` with windows combined with `updates`, at the places that `indices` gives. */
export function scatter(
  arrays: readonly HloInstruction[],
  indices: HloInstruction,
  updates: readonly HloInstruction[],
  { body, ...placing }: Placing & { readonly body: HloComputation },
): Scatter {
  const operands = [...arrays, indices, ...updates];
  return make<Scatter>({ opcode: 'scatter', operands, ...whole(placing), body });
}

function whole(it: Placing): Placement {
  const { windowDims, insertedDims, indexMap, indexVectorDim } = it;
  const { batchingDims = [], indicesBatchingDims = [] } = it;
  const batching = { batchingDims, indicesBatchingDims };
  return { windowDims, insertedDims, indexMap, indexVectorDim, ...batching };
}
