import { at } from '../../numerics/assert.ts';
import { encoderOf, type Literal, scalarAt, writable } from '../../numerics/literal.ts';
import { elementCount, otherDimensions, stridesOf } from '../../numerics/shape.ts';
import type { Gather, HloComputation, Placement, Scatter } from '../instruction.ts';
import type { ScalarBody } from './reduce.ts';
import { forEachIndex, gathered, wordsOf } from './value.ts';

/** Evaluates a gather. A window that would begin or end outside of the operand is moved inside. */
export function gatherOf(it: Gather, operand: Literal, indices: Literal): Literal {
  const { dims } = operand.shape;
  const startOf = windowStarts(it, it.shape.dims.length, dims, indices);
  const offsetOf = windowOffsets(it, dims);
  const strides = stridesOf(dims);
  const from = new Float64Array(elementCount(it.shape));
  forEachIndex(it.shape.dims, (index, flat) => {
    const start = startOf(index);
    const offset = offsetOf(index);
    from[flat] = dims.reduce((place, size, d) => {
      const last = size - at(it.sizes, d);
      return place + (Math.min(Math.max(start[d]!, 0), last) + offset[d]!) * strides[d]!;
    }, 0);
  });
  return gathered(it.shape, operand, from);
}

/**
 * Evaluates a scatter of one or more operands. The windows are taken in row-major order of the index
 * vectors. Updates of a window that would begin or end outside of the operand are skipped.
 */
export function scatterOf(
  it: Scatter,
  operands: readonly Literal[],
  indices: Literal,
  updates: readonly Literal[],
  body: ScalarBody,
): readonly Literal[] {
  const { dims } = at(operands, 0).shape;
  const first = at(updates, 0).shape;
  const startOf = windowStarts(it, first.dims.length, dims, indices);
  const offsetOf = windowOffsets(it, dims);
  const sizes = windowSizes(it, dims, first.dims);
  const strides = stridesOf(dims);
  const results = operands.map(({ shape, data }) => ({ shape, data: data.slice() }));
  const combine = combination(it.body, body, results, updates);
  forEachUpdate(it, first.dims, (index, flat) => {
    const start = startOf(index);
    if (dims.some((size, d) => start[d]! < 0 || start[d]! + sizes[d]! > size)) return;
    const offset = offsetOf(index);
    const place = dims.reduce((sum, _, d) => sum + (start[d]! + offset[d]!) * strides[d]!, 0);
    combine(place, flat);
  });
  return results;
}

/**
 * Calls `visit` with the index and the row-major index of each update, window after window. `dims`
 * are the dimensions of the updates.
 */
function forEachUpdate(
  it: Placement,
  dims: readonly number[],
  visit: (index: readonly number[], flat: number) => void,
): void {
  const order = [...otherDimensions(dims.length, it.windowDims), ...it.windowDims];
  const strides = stridesOf(dims);
  const index = dims.map(() => 0);
  forEachIndex(
    order.map((d) => dims[d]!),
    (ordered) => {
      order.forEach((d, i) => {
        index[d] = ordered[i]!;
      });
      visit(
        index,
        index.reduce((flat, n, d) => flat + n * strides[d]!, 0),
      );
    },
  );
}

/**
 * Returns a function that combines the elements at `place` of all arrays with the elements at `flat`
 * of all updates. A body that only returns some of its parameters moves elements. Then the elements
 * keep their bits.
 */
function combination(
  computation: HloComputation,
  body: ScalarBody,
  arrays: readonly Literal[],
  updates: readonly Literal[],
): (place: number, flat: number) => void {
  const moved = returnedParameters(computation);
  const into = arrays.map((array) => writable(moved ? wordsOf(array) : array.data));
  if (moved !== undefined) {
    const from = updates.map(wordsOf);
    return (place, flat) => {
      const all = [...into.map((array) => array[place]!), ...from.map((words) => words[flat]!)];
      moved.forEach((index, n) => {
        into[n]![place] = all[index]!;
      });
    };
  }
  const encoders = arrays.map(({ shape }) => encoderOf(shape.type));
  return (place, flat) => {
    const now = arrays.map((array) => scalarAt(array, place));
    body(...now, ...updates.map((update) => scalarAt(update, flat))).forEach((value, n) => {
      into[n]![place] = encoders[n]!(value);
    });
  };
}

/** Returns the numbers of the parameters that a computation returns, if it only returns parameters. */
function returnedParameters({ root }: HloComputation): readonly number[] | undefined {
  const results = root.opcode === 'tuple' ? root.operands : [root];
  const numbers = results.flatMap((it) => (it.opcode === 'parameter' ? [it.index] : []));
  return numbers.length === results.length ? numbers : undefined;
}

/** Returns the size of the window of a scatter along each dimension of the operand. */
export function windowSizes(
  it: Placement,
  dims: readonly number[],
  updateDims: readonly number[],
): readonly number[] {
  const windowed = windowedDims(it, dims);
  return dims.map((_, d) => {
    const place = windowed.indexOf(d);
    return place < 0 ? 1 : at(updateDims, at(it.windowDims, place));
  });
}

/** Returns the dimensions of the operand along which a window extends, in order. */
export function windowedDims(it: Placement, dims: readonly number[]): readonly number[] {
  return otherDimensions(dims.length, [...it.insertedDims, ...it.batchingDims]);
}

/**
 * Returns a function from an index of the result of a gather, or of the updates of a scatter, to the
 * start of its window in the operand, before it is clamped or checked. `rank` is the rank of the
 * result or of the updates, and `dims` are the dimensions of the operand.
 */
function windowStarts(
  it: Placement,
  rank: number,
  dims: readonly number[],
  indices: Literal,
): (index: readonly number[]) => readonly number[] {
  const batch = otherDimensions(rank, it.windowDims);
  const strides = stridesOf(indices.shape.dims);
  const along = otherDimensions(indices.shape.dims.length, [it.indexVectorDim]);
  const step = strides[it.indexVectorDim] ?? 0;
  return (index) => {
    const start = dims.map(() => 0);
    const flat = along.reduce((sum, d, i) => sum + index[batch[i]!]! * strides[d]!, 0);
    it.indexMap.forEach((d, k) => {
      start[d] = Number(scalarAt(indices, flat + k * step));
    });
    it.batchingDims.forEach((d, i) => {
      start[d] = index[batch[along.indexOf(at(it.indicesBatchingDims, i))]!]!;
    });
    return start;
  };
}

/**
 * Returns a function from an index of the result of a gather, or of the updates of a scatter, to the
 * index within its window. This index has an entry for each dimension of the operand.
 */
function windowOffsets(
  it: Placement,
  dims: readonly number[],
): (index: readonly number[]) => readonly number[] {
  const windowed = windowedDims(it, dims);
  return (index) => {
    const offset = dims.map(() => 0);
    windowed.forEach((d, i) => {
      offset[d] = index[it.windowDims[i]!]!;
    });
    return offset;
  };
}
