import { broadcastScalar, pad, reshape, scalar, slice, transpose, tuple } from '../../hlo/build.ts';
import { allGather, allToAll } from '../../hlo/build-collective.ts';
import { scalarMap } from '../../hlo/build-control.ts';
import type {
  AllGather,
  AllReduce,
  AllToAll,
  CollectiveBroadcast,
  CollectivePermute,
  HloComputation,
  HloInstruction,
  ReduceScatter,
} from '../../hlo/instruction.ts';
import type { ReplicaGroups } from '../../hlo/ops/groups.ts';
import { familyOf } from '../../hlo/ops.ts';
import { postOrder, withOperands } from '../../hlo/traverse.ts';
import { at } from '../../numerics/assert.ts';
import { PodError } from '../../numerics/error.ts';
import {
  type ArrayShape,
  arrayShape,
  byteCount,
  elementCount,
  isArray,
} from '../../numerics/shape.ts';
import { isGradientSum } from './all-reduce.ts';

/**
 * Rewrites a collective so that the links can run it. The links run the sum of f32 over all replicas,
 * which stays as it is, and exchanges of rows. After this function:
 *
 * - An all-gather joins rows [1, n] to [members, n]; an all-to-all exchanges the rows of [members, n].
 * - A permute or a broadcast sends one row [n].
 * - Rows have a multiple of four bytes.
 * - There is no reduce-scatter, and no other all-reduce. Each member gets a part of the values of all
 *   members of its group, combines them in the order of the group, and, in an all-reduce, gives the
 *   result to all. So each sum has the order of `evaluateReplicas`.
 *
 * `replicas` is the number of replicas of the whole slice, if it is known.
 */
export function canonicalCollective(
  it: HloInstruction,
  replicas: number | undefined,
): HloInstruction {
  switch (it.opcode) {
    case 'all-gather':
      return gathered(it);
    case 'all-to-all':
      return exchanged(it, membersOf(it, replicas));
    case 'collective-permute':
    case 'collective-broadcast':
      return sent(it);
    case 'reduce-scatter':
      return scattered(it);
    case 'all-reduce':
      return isGradientSum(it) ? it : reduced(it, membersOf(it, replicas));
    default:
      return it;
  }
}

function gathered(it: AllGather): HloInstruction {
  const x = at(it.operands, 0);
  const { dims } = arrayOf(x);
  const all = gatheredRows(flat(x), sizeAt(it.shape, it.dimension, dims), it.groups);
  return merged(reshape(all, [sizeAt(it.shape, it.dimension, dims), ...dims]), it.dimension);
}

/** Returns the rows [members, n] of all members, from the row [n] of this one. */
function gatheredRows(row: HloInstruction, members: number, groups: ReplicaGroups): HloInstruction {
  const n = sizeOf(row);
  const padded = wholeWords(reshape(row, [1, n]));
  return trimmed(allGather(padded, members, { dimension: 0, groups }), n);
}

function exchanged(it: AllToAll, members: number): HloInstruction {
  const parts = cut(at(it.operands, 0), it.dimension, members);
  const { dims } = arrayOf(parts);
  return merged(reshape(exchangedRows(rows(parts), it.groups), dims), it.dimension);
}

/** Exchanges the rows of [members, n] within groups. */
function exchangedRows(all: HloInstruction, groups: ReplicaGroups): HloInstruction {
  return trimmed(allToAll(wholeWords(all), { dimension: 0, groups }), at(arrayOf(all).dims, 1));
}

function sent(it: CollectivePermute | CollectiveBroadcast): HloInstruction {
  const x = at(it.operands, 0);
  const moved = withOperands(it, [wholeWords(flat(x))]);
  return reshape(trimmed(moved, sizeOf(x)), arrayOf(x).dims);
}

function scattered(it: ReduceScatter): HloInstruction {
  const x = at(it.operands, 0);
  const members = at(arrayOf(x).dims, it.dimension) / at(it.shape.dims, it.dimension);
  const parts = rows(cut(x, it.dimension, Number.isNaN(members) ? 1 : members));
  return reshape(folded(exchangedRows(parts, it.groups), it.body), it.shape.dims);
}

function reduced(it: AllReduce, members: number): HloInstruction {
  const results = it.operands.map((x) => {
    const n = sizeOf(x);
    const width = Math.ceil(n / members);
    const parts = reshape(padded(flat(x), members * width), [members, width]);
    const own = folded(exchangedRows(parts, it.groups), it.body);
    const all = flat(gatheredRows(own, members, it.groups));
    return reshape(slice(all, [0], [n]), arrayOf(x).dims);
  });
  return results.length === 1 ? at(results, 0) : tuple(results);
}

/** Combines the rows of [members, n] to a row [n], from the first row to the last. */
function folded(all: HloInstruction, body: HloComputation): HloInstruction {
  const [members = 0, n = 0] = arrayOf(all).dims;
  const row = (i: number): HloInstruction => reshape(slice(all, [i, 0], [i + 1, n]), [n]);
  let sum = row(0);
  for (let i = 1; i < members; i++) sum = combined(body, sum, row(i));
  return sum;
}

/** Combines two rows element by element with a computation on scalars. */
function combined(body: HloComputation, a: HloInstruction, b: HloInstruction): HloInstruction {
  const order = postOrder(body.root);
  const isSimple = ({ opcode, shape }: HloInstruction): boolean =>
    opcode === 'parameter' || opcode === 'constant' || isArray(shape);
  const stands = order.every(
    (it) => isSimple(it) && (isLeaf(it) || familyOf(it) === 'elementwise'),
  );
  if (!stands) return scalarMap([a, b], body);
  const { dims } = arrayOf(a);
  const made = new Map<HloInstruction, HloInstruction>();
  for (const it of order) {
    if (it.opcode === 'parameter') made.set(it, it.index === 0 ? a : b);
    else if (it.opcode === 'constant') made.set(it, broadcastScalar(it, dims));
    else {
      const shape = { ...arrayOf(it), dims };
      const operands = it.operands.map((x) => made.get(x)!);
      made.set(it, withOperands({ ...it, shape } as HloInstruction, operands));
    }
  }
  return made.get(body.root)!;
}

function isLeaf({ opcode }: HloInstruction): boolean {
  return opcode === 'parameter' || opcode === 'constant';
}

/** Cuts an array along a dimension, and returns the parts as [members, …dims of a part]. */
function cut(x: HloInstruction, dimension: number, members: number): HloInstruction {
  const { dims } = arrayOf(x);
  const size = at(dims, dimension) / members;
  const split = [...dims.slice(0, dimension), members, size, ...dims.slice(dimension + 1)];
  const others = split.map((_, d) => d).filter((d) => d !== dimension);
  return transpose(reshape(x, split), [dimension, ...others]);
}

/** Joins the parts of [members, …dims of a part] along a dimension of the parts. */
function merged(parts: HloInstruction, dimension: number): HloInstruction {
  const [members = 0, ...dims] = arrayOf(parts).dims;
  const order = dims.map((_, d) => d + 1);
  order.splice(dimension, 0, 0);
  const whole = dims.map((n, d) => (d === dimension ? members * n : n));
  return reshape(transpose(parts, order), whole);
}

function flat(x: HloInstruction): HloInstruction {
  return reshape(x, [sizeOf(x)]);
}

/** Returns [members, …] as [members, n]. */
function rows(parts: HloInstruction): HloInstruction {
  const [members = 0, ...dims] = arrayOf(parts).dims;
  return reshape(parts, [members, dims.reduce((product, n) => product * n, 1)]);
}

/** Pads the last dimension so that a row has a multiple of four bytes. */
function wholeWords(all: HloInstruction): HloInstruction {
  const { type, dims } = arrayOf(all);
  const bytes = byteCount(arrayShape(type, [1]));
  const perWord = Math.max(1, 4 / bytes);
  return padded(all, Math.ceil(at(dims, dims.length - 1) / perWord) * perWord);
}

/** Pads the last dimension with zeros to `size` elements. */
function padded(x: HloInstruction, size: number): HloInstruction {
  const { type, dims } = arrayOf(x);
  const missing = size - at(dims, dims.length - 1);
  if (missing === 0) return x;
  const none = dims.map(() => 0);
  const high = none.with(dims.length - 1, missing);
  return pad(x, scalar(type, 0), { low: none, high, interior: none });
}

/** Takes the first `size` elements of the last dimension. */
function trimmed(x: HloInstruction, size: number): HloInstruction {
  const { dims } = arrayOf(x);
  if (at(dims, dims.length - 1) === size) return x;
  return slice(
    x,
    dims.map(() => 0),
    dims.with(dims.length - 1, size),
  );
}

function membersOf(it: AllToAll | AllReduce, replicas: number | undefined): number {
  const members = it.groups[0]?.length ?? replicas;
  if (members !== undefined) return members;
  const expected = 'expected groups, because the number of replicas is not known';
  const name = it.name === undefined ? it.opcode : `${it.opcode} ${it.name}`;
  throw new PodError('unsupported-program', `${name}: ${expected}`);
}

/** Returns how many operands of dimensions `dims` lie in a result along a dimension. */
function sizeAt(shape: ArrayShape, dimension: number, dims: readonly number[]): number {
  const own = at(dims, dimension);
  return own === 0 ? 1 : at(shape.dims, dimension) / own;
}

function sizeOf(x: HloInstruction): number {
  return elementCount(arrayOf(x));
}

function arrayOf({ shape }: HloInstruction): ArrayShape {
  if (!isArray(shape)) throw new PodError('bad-program', 'a collective takes arrays');
  return shape;
}
