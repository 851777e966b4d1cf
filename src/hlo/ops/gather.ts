import { at } from '../../numerics/assert.ts';
import { type ArrayShape, arrayShape, type Shape, sameDims } from '../../numerics/shape.ts';
import { gatherOf, scatterOf, windowedDims } from '../evaluate/gather.ts';
import { literalOf } from '../evaluate/value.ts';
import type { Draft, HloComputation, InstructionBase } from '../instruction.ts';
import { type Attribute, callee, field, ignored, integer, integers } from '../text/attribute.ts';
import { skipValue } from '../text/read.ts';
import {
  arrayOperand,
  expect,
  expectDistinct,
  expectKind,
  expectOperands,
  expectSignature,
  isIndex,
  oneOrTuple,
} from './check.ts';
import type { Definition, DefinitionsOf } from './definition.ts';

/** Operations that move windows from or to places that an array of indices gives. */
export type Gathering = Gather | Scatter;

/**
 * Where the windows of a gather or scatter lie in the operand. The array of indices holds one index
 * vector for each window, along `indexVectorDim`. If `indexVectorDim` is the rank of the array of
 * indices, each element is an index vector of one component.
 */
export interface Placement {
  /** Dimensions of the result (gather) or of the updates (scatter) along which a window extends. */
  readonly windowDims: readonly number[];
  /** Dimensions of the operand along which a window has size 1 and that the result leaves out. */
  readonly insertedDims: readonly number[];
  /** Component k of an index vector is the start along dimension `indexMap[k]` of the operand. */
  readonly indexMap: readonly number[];
  /**
   * Dimensions of the operand along which a window has size 1, and starts at the index of the window
   * along dimension `indicesBatchingDims[i]` of the array of indices.
   */
  readonly batchingDims: readonly number[];
  readonly indicesBatchingDims: readonly number[];
  readonly indexVectorDim: number;
}

/**
 * Windows of an array. Operands: x, indices. A window that would begin or end outside of x is moved
 * inside.
 */
export interface Gather extends InstructionBase<'gather'>, Placement {
  /** Size of a window along each dimension of x. */
  readonly sizes: readonly number[];
}

/**
 * Combines windows of arrays with updates. Operands: n arrays, indices, n arrays of updates. The
 * windows are taken in row-major order of their index vectors, as XLA takes them. `body` takes the n
 * present elements and n updates, and returns n new elements. The updates of a window that would
 * begin or end outside of the arrays are skipped. If n is 1, the result is an array; otherwise it is
 * a tuple.
 */
export interface Scatter extends InstructionBase<'scatter', Shape>, Placement {
  readonly body: HloComputation;
}

const none = { otherwise: [], isWritten: (dims: readonly number[]) => dims.length > 0 };

/** What XLA knows of the indices. It does not change the result. */
function hints<I>(): readonly Attribute<I>[] {
  return ['indices_are_sorted', 'unique_indices'].map((key) => ignored<I>(key, skipValue));
}

const gather: Definition<Gather> = {
  family: 'indexed',
  attributes: [
    field('offset_dims', 'windowDims', integers),
    field('collapsed_slice_dims', 'insertedDims', integers),
    field('start_index_map', 'indexMap', integers),
    field('operand_batching_dims', 'batchingDims', integers, none),
    field('start_indices_batching_dims', 'indicesBatchingDims', integers, none),
    field('index_vector_dim', 'indexVectorDim', integer),
    field('slice_sizes', 'sizes', integers),
    ...hints<Gather>(),
  ],
  infer: gatherShape,
  evaluate: (it, [x, indices]) => gatherOf(it, literalOf(x!), literalOf(indices!)),
};

const scatter: Definition<Scatter> = {
  family: 'indexed',
  attributes: [
    field('update_window_dims', 'windowDims', integers),
    field('inserted_window_dims', 'insertedDims', integers),
    field('scatter_dims_to_operand_dims', 'indexMap', integers),
    field('input_batching_dims', 'batchingDims', integers, none),
    field('scatter_indices_batching_dims', 'indicesBatchingDims', integers, none),
    field('index_vector_dim', 'indexVectorDim', integer),
    ...hints<Scatter>(),
    field('to_apply', 'body', callee),
  ],
  bodies: ({ body }) => [body],
  infer: scatterShape,
  evaluate: (it, operands, run) => {
    const arrays = operands.map(literalOf);
    const n = (arrays.length - 1) / 2;
    const updates = arrays.slice(n + 1);
    const body = run.scalar(it.body);
    const results = scatterOf(it, arrays.slice(0, n), at(arrays, n), updates, body);
    return n === 1 ? at(results, 0) : results;
  },
};

/** Definitions of {@link Gathering}. */
export const gatheringDefinitions: DefinitionsOf<Gathering> = { gather, scatter };

function gatherShape(it: Draft<Gather>): Shape {
  expectOperands(it, 2);
  const [x, indices] = [arrayOperand(it, 0), arrayOperand(it, 1)];
  expect(it, it.sizes.length === x.dims.length, `${x.dims.length} slice_sizes`);
  const fits = it.sizes.every((size, d) => isIndex(size) && size <= at(x.dims, d));
  expect(it, fits, 'slices that are not larger than the array');
  const single = [...it.insertedDims, ...it.batchingDims];
  const batch = expectPlacement(it, x, indices);
  expect(
    it,
    single.every((d) => at(it.sizes, d) === 1),
    'size 1 along a collapsed dimension',
  );
  const rank = batch.length + it.windowDims.length;
  const windowed = windowedDims(it, x.dims).map((d) => at(it.sizes, d));
  return arrayShape(x.type, merged(it, rank, { windowed, batch }));
}

function scatterShape(it: Draft<Scatter>): Shape {
  const n = (it.operands.length - 1) / 2;
  expect(it, Number.isInteger(n) && n > 0, 'arrays, indices, and as many updates as arrays');
  const arrays = it.operands.slice(0, n).map((_, i) => arrayOperand(it, i));
  const [first] = arrays;
  const batch = expectPlacement(it, first!, arrayOperand(it, n));
  const windowed = windowedDims(it, first!.dims);
  const updates = arrayOperand(it, n + 1);
  arrays.forEach(({ type, dims }, i) => {
    const update = arrayOperand(it, n + 1 + i);
    const isAlike = update.type === type && sameDims(update.dims, updates.dims);
    expect(it, isAlike && sameDims(dims, first!.dims), 'arrays of one size, and their updates');
  });
  const sizes = it.windowDims.map((d) => updates.dims[d] ?? -1);
  const fits = windowed.every((d, i) => at(sizes, i) <= at(first!.dims, d));
  expect(it, fits, 'windows that are not larger than the array');
  const rank = batch.length + it.windowDims.length;
  const expected = merged(it, rank, { windowed: sizes, batch });
  expect(it, sameDims(expected, updates.dims), `updates of dimensions ${expected.join(',')}`);
  const scalars = arrays.map(({ type }) => arrayShape(type, []));
  expectSignature(it, it.body, [...scalars, ...scalars], oneOrTuple(scalars));
  return oneOrTuple(arrays);
}

/** Returns the sizes of the dimensions of a result or of updates, in order. */
function merged(
  { windowDims }: Placement,
  rank: number,
  sizes: { readonly windowed: readonly number[]; readonly batch: readonly number[] },
): number[] {
  let next = 0;
  return Array.from({ length: rank }, (_, d) => {
    const place = windowDims.indexOf(d);
    return place < 0 ? at(sizes.batch, next++) : at(sizes.windowed, place);
  });
}

/**
 * Checks the numbers of dimensions of a gather or scatter. Returns the sizes of the dimensions of
 * the array of indices without the index vector.
 */
function expectPlacement(it: Draft<Gathering>, x: ArrayShape, indices: ArrayShape): number[] {
  expectKind(it, 'integer', indices);
  const { indexVectorDim: vector, indexMap, batchingDims, indicesBatchingDims } = it;
  expect(it, isSorted(batchingDims), 'batching dimensions in order');
  expect(it, isSorted(it.insertedDims), 'collapsed dimensions in order');
  const isVector = isIndex(vector) && vector <= indices.dims.length;
  expect(it, isVector, `index_vector_dim from 0 to ${indices.dims.length}, not ${vector}`);
  const components = indices.dims[vector] ?? 1;
  expect(it, indexMap.length === components, `${components} dimensions in the map of indices`);
  const single = [...it.insertedDims, ...batchingDims];
  expectDistinct(it, single, x.dims.length, 'collapsed and batching dimensions');
  expectDistinct(it, [...indexMap, ...batchingDims], x.dims.length, 'dimensions of indices');
  expectDistinct(it, indicesBatchingDims, indices.dims.length, 'batching dimensions of indices');
  expect(it, !indicesBatchingDims.includes(vector), 'batching dimensions without the index vector');
  const paired = batchingDims.every(
    (d, i) => x.dims[d] === indices.dims[indicesBatchingDims[i] ?? -1],
  );
  expect(
    it,
    paired && batchingDims.length === indicesBatchingDims.length,
    'pairs of equal batching dimensions',
  );
  const batch = indices.dims.filter((_, d) => d !== vector);
  const rank = batch.length + it.windowDims.length;
  expectDistinct(it, it.windowDims, rank, 'window dimensions');
  expect(it, isSorted(it.windowDims), 'window dimensions in order');
  const whole = it.windowDims.length + single.length === x.dims.length;
  expect(it, whole, 'a window, collapsed or batching dimension for each dimension of the array');
  return batch;
}

function isSorted(dims: readonly number[]): boolean {
  return dims.every((d, i) => i === 0 || d > at(dims, i - 1));
}
