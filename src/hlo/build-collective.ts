import { at } from '../numerics/assert.ts';
import { isArray, type Shape } from '../numerics/shape.ts';
import { adder, make } from './build.ts';
import type {
  AllGather,
  AllToAll,
  CollectiveBroadcast,
  CollectivePermute,
  HloComputation,
  HloInstruction,
  ReduceScatter,
} from './instruction.ts';
import type { ReplicaGroups } from './ops/groups.ts';

/** Along which dimension a collective works, and within which groups of replicas. */
export interface Along {
  readonly dimension: number;
  /** Default: one group of all replicas. */
  readonly groups?: ReplicaGroups;
}

/** Joins the values of the `members` replicas of each group along a dimension. */
export function allGather(
  x: HloInstruction,
  members: number,
  { dimension, groups = [] }: Along,
): AllGather {
  const shape = scaled(x.shape, dimension, members);
  return make<AllGather>({ opcode: 'all-gather', operands: [x], shape, dimension, groups });
}

/**
 * Combines the values of the `members` replicas of each group, and gives each member its part along
 * a dimension. Without `body`, the values are added.
 */
export function reduceScatter(
  x: HloInstruction,
  members: number,
  { dimension, groups = [] }: Along,
  body?: HloComputation,
): ReduceScatter {
  const shape = scaled(x.shape, dimension, 1 / members);
  const sum = body ?? adder(isArray(x.shape) ? x.shape.type : 'f32');
  const opcode = 'reduce-scatter';
  return make<ReduceScatter>({ opcode, operands: [x], shape, dimension, groups, body: sum });
}

/** Exchanges parts along a dimension between the replicas of each group. */
export function allToAll(x: HloInstruction, { dimension, groups = [] }: Along): AllToAll {
  return make<AllToAll>({ opcode: 'all-to-all', operands: [x], dimension, groups });
}

/** Sends the value of each source to its target. */
export function collectivePermute(
  x: HloInstruction,
  pairs: CollectivePermute['pairs'],
): CollectivePermute {
  return make<CollectivePermute>({ opcode: 'collective-permute', operands: [x], pairs });
}

/** Gives the value of the first replica of each group to all replicas of the group. */
export function collectiveBroadcast(
  x: HloInstruction,
  groups: ReplicaGroups = [],
): CollectiveBroadcast {
  return make<CollectiveBroadcast>({ opcode: 'collective-broadcast', operands: [x], groups });
}

function scaled(shape: Shape, dimension: number, factor: number): Shape {
  if (!isArray(shape) || dimension >= shape.dims.length) return shape;
  const size = at(shape.dims, dimension) * factor;
  return { ...shape, dims: shape.dims.map((n, d) => (d === dimension ? size : n)) };
}
