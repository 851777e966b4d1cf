import type { Placement } from '../../src/hlo/instruction.ts';

/** A random gather or scatter: its numbers of dimensions, and small integers as values. */
export interface PlacementCase {
  readonly placement: Placement;
  readonly dims: readonly number[];
  readonly sizes: readonly number[];
  readonly indicesDims: readonly number[];
  /** Dimensions of the result of the gather, which are those of the updates of the scatter. */
  readonly resultDims: readonly number[];
  readonly values: readonly number[];
  readonly indices: readonly number[];
  readonly updates: readonly number[];
}

/** Draws a case. Some windows lie outside of the array. */
export function randomPlacement(seed: number): PlacementCase {
  let state = seed >>> 0;
  const draw = (n: number): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state >>> 8) % n;
  };
  const many = <T>(length: number, make: (i: number) => T): T[] =>
    Array.from({ length }, (_, i) => make(i));
  const shuffled = (values: readonly number[]): number[] => {
    const left = [...values];
    return values.map(() => left.splice(draw(left.length), 1)[0]!);
  };
  const dims = many(1 + draw(3), () => 1 + draw(4));
  const all = dims.map((_, d) => d);
  const kinds = all.map(() => ['window', 'inserted', 'batching'][draw(5) === 0 ? 2 : draw(2)]!);
  const batchingDims = all.filter((d) => kinds[d] === 'batching');
  const insertedDims = all.filter((d) => kinds[d] === 'inserted');
  const windowed = all.filter((d) => kinds[d] === 'window');
  const sizes = all.map((d) => (kinds[d] === 'window' ? draw(dims[d]! + 1) : 1));
  const mapped = shuffled(all.filter((d) => kinds[d] !== 'batching'));
  const indexMap = mapped.slice(0, draw(mapped.length + 1));
  // The dimensions of the indices without the index vector: the paired ones, and others.
  const batch = shuffled([...batchingDims, ...many(draw(2), () => -1 - draw(3))]);
  const isImplicit = indexMap.length === 1 && draw(3) === 0;
  const indexVectorDim = isImplicit ? batch.length : draw(batch.length + 1);
  const sizesOfBatch = batch.map((d) => (d >= 0 ? dims[d]! : -d));
  const indicesDims = [...sizesOfBatch];
  if (!isImplicit) indicesDims.splice(indexVectorDim, 0, indexMap.length);
  const shift = (place: number): number =>
    isImplicit || place < indexVectorDim ? place : place + 1;
  const indicesBatchingDims = batchingDims.map((d) => shift(batch.indexOf(d)));
  const rank = batch.length + windowed.length;
  const windowDims = shuffled(many(rank, (d) => d))
    .slice(0, windowed.length)
    .sort((a, z) => a - z);
  const [left, rest] = [[...sizesOfBatch], windowed.map((d) => sizes[d]!)];
  const resultDims = many(rank, (d) => (windowDims.includes(d) ? rest : left).shift()!);
  const count = (list: readonly number[]): number => list.reduce((n, size) => n * size, 1);
  return {
    placement: {
      ...{ windowDims, insertedDims, indexMap, batchingDims, indicesBatchingDims, indexVectorDim },
    },
    ...{ dims, sizes, indicesDims, resultDims },
    values: many(count(dims), () => draw(9) - 4),
    indices: many(count(indicesDims), () => draw(8) - 2),
    updates: many(count(resultDims), () => draw(9) - 4),
  };
}
