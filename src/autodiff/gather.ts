import {
  adder,
  and,
  broadcast,
  clamp,
  compare,
  computation,
  constant,
  convert,
  parameter,
  reduce,
  scalar,
  select,
} from '../hlo/build.ts';
import { gather, scatter } from '../hlo/build-gather.ts';
import { windowSizes } from '../hlo/evaluate/gather.ts';
import type { Gather, HloInstruction, Placement, Scatter } from '../hlo/instruction.ts';
import { literal } from '../numerics/literal.ts';
import { arrayShape, otherDimensions } from '../numerics/shape.ts';
import { filled } from './fill.ts';
import { combinerOf } from './reduction.ts';
import { arrayOf, type Contribution, noDerivative, operand, toOperands } from './rule.ts';

/**
 * The cotangents of all windows are added at the places of the windows. A scatter skips a window
 * outside of the array, but a gather moves it inside. So the indices are clamped first.
 */
export function gatherRule(it: Gather, ct: HloInstruction): Contribution[] {
  const x = operand(it, 0);
  const { type, dims } = arrayOf(x);
  return toOperands(it, () => {
    const indices = clamped(it, operand(it, 1), lastStarts(it, dims, it.sizes));
    return scatter([filled(x, 0)], indices, [ct], { ...it, body: adder(type) });
  });
}

/**
 * Derivative of a scatter of one array that adds. An element of the array is a summand of the same
 * element of the result. An update is a summand too, unless its window was skipped.
 */
export function scatterRule(it: Scatter, ct: HloInstruction): Contribution[] {
  if (combinerOf(it.body) !== 'add') throw noDerivative(it, `${it.body.name} is not a sum`);
  const { dims } = arrayOf(operand(it, 0));
  const updates = operand(it, 2);
  const sizes = windowSizes(it, dims, arrayOf(updates).dims);
  return toOperands(
    it,
    () => ct,
    undefined,
    () => {
      const last = lastStarts(it, dims, sizes);
      const isKept = within(it, operand(it, 1), last, arrayOf(updates).dims);
      const windows = gather(ct, operand(it, 1), it, sizes);
      return select(isKept, windows, filled(updates, 0));
    },
  );
}

/** Returns, for each component of an index vector, the last start of a window inside the array. */
function lastStarts(
  { indexMap }: Placement,
  dims: readonly number[],
  sizes: readonly number[],
): readonly number[] {
  return indexMap.map((d) => dims[d]! - sizes[d]!);
}

/** Returns one value for each component of the index vectors, spread over an array of indices. */
function spread(
  { indexVectorDim: vector }: Placement,
  values: readonly number[],
  like: HloInstruction,
): HloInstruction {
  const { type, dims } = arrayOf(like);
  if (vector === dims.length) return filled(like, values[0]!);
  return broadcast(constant(literal(type, [values.length], values)), dims, [vector]);
}

/** Returns indices as numbers of 64 bits, so that every bound can be written in their type. */
function wide(indices: HloInstruction): HloInstruction {
  return arrayOf(indices).type === 'u64' ? indices : convert(indices, 's64');
}

function clamped(it: Placement, indices: HloInstruction, last: readonly number[]): HloInstruction {
  const x = wide(indices);
  return clamp(scalar(arrayOf(x).type, 0), x, spread(it, last, x));
}

/** Returns a mask of the updates whose window lies inside the array. */
function within(
  it: Placement,
  indices: HloInstruction,
  last: readonly number[],
  dims: readonly number[],
): HloInstruction {
  const x = wide(indices);
  const fits = and(compare('GE', x, filled(x, 0)), compare('LE', x, spread(it, last, x)));
  const isVector = it.indexVectorDim < arrayOf(x).dims.length;
  const all = isVector ? reduce(fits, scalar('pred', 1), [it.indexVectorDim], both()) : fits;
  return broadcast(all, dims, otherDimensions(dims.length, it.windowDims));
}

function both(): ReturnType<typeof computation> {
  const [p, q] = [0, 1].map((i) => parameter(i, arrayShape('pred', [])));
  return computation('both', [p!, q!], and(p!, q!));
}
