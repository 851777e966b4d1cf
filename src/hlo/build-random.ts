import type { ElementType } from '../numerics/element-type.ts';
import { arrayShape, isArray } from '../numerics/shape.ts';
import { make } from './build.ts';
import type {
  Draft,
  HloInstruction,
  PartitionId,
  ReplicaId,
  StochasticConvert,
} from './instruction.ts';
import { refuse } from './ops/check.ts';

/* Builders of the operations that round at random, and of those that say where a program runs. */

/** The floats x, each rounded at random to one of its two neighbours in another type. */
export function stochasticConvert(
  x: HloInstruction,
  random: HloInstruction,
  type: ElementType,
): StochasticConvert {
  const draft: Draft<StochasticConvert> = { opcode: 'stochastic-convert', operands: [x, random] };
  if (!isArray(x.shape)) return refuse(draft, 'an array as operand 0');
  return make<StochasticConvert>({ ...draft, shape: arrayShape(type, x.shape.dims) });
}

/** The number of the replica that runs the program, u32[]. */
export function replicaId(): ReplicaId {
  return make<ReplicaId>({ opcode: 'replica-id', operands: [] });
}

/** The number of the partition that runs the program, u32[]. It is 0. */
export function partitionId(): PartitionId {
  return make<PartitionId>({ opcode: 'partition-id', operands: [] });
}
