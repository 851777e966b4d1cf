import { literal } from '../../numerics/literal.ts';
import { arrayShape } from '../../numerics/shape.ts';
import type { InstructionBase } from '../instruction.ts';
import { expectOperands } from './check.ts';
import type { Definition, DefinitionsOf } from './definition.ts';

/** Operations that say where a program runs. */
export type Identity = ReplicaId | PartitionId;

/** The number of the replica that runs the program, u32[]. No operands. */
export interface ReplicaId extends InstructionBase<'replica-id'> {}

/** The number of the partition that runs the program, u32[]. It is 0. No operands. */
export interface PartitionId extends InstructionBase<'partition-id'> {}

const replicaId: Definition<ReplicaId> = {
  family: 'leaf',
  replicas: 'differ',
  infer: (it) => {
    expectOperands(it, 0);
    return arrayShape('u32', []);
  },
  evaluate: (_, __, { replica }) => literal('u32', [], [replica]),
};

const partitionId: Definition<PartitionId> = {
  family: 'leaf',
  infer: (it) => {
    expectOperands(it, 0);
    return arrayShape('u32', []);
  },
  evaluate: () => literal('u32', [], [0]),
};

/** Definitions of {@link Identity}. */
export const identityDefinitions: DefinitionsOf<Identity> = {
  'replica-id': replicaId,
  'partition-id': partitionId,
};
