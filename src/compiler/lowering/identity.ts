import { scalar } from '../../hlo/build.ts';
import type { HloInstruction } from '../../hlo/instruction.ts';
import { bodiesOf, computationsOf, postOrder } from '../../hlo/traverse.ts';
import { PodError } from '../../numerics/error.ts';
import type { Lowerings } from './lowering.ts';

/** Lowering of the operations that say where a program runs. */
export const identity: Lowerings<'replica-id' | 'partition-id'> = {
  'replica-id': {
    unit: (it) => {
      throw noReplicaId(it);
    },
  },
  'partition-id': { name: (_, to) => [to.constant(scalar('u32', 0))] },
};

/**
 * Refuses an instruction with a computation that asks for the number of the replica. Plain code must
 * not run it, because a core does not know the number.
 */
export function refuseReplicaId(it: HloInstruction): void {
  const called = new Set(bodiesOf(it).flatMap(computationsOf));
  for (const { root } of called) {
    const found = postOrder(root).find(({ opcode }) => opcode === 'replica-id');
    if (found !== undefined) throw noReplicaId(found);
  }
}

function noReplicaId(it: HloInstruction): PodError {
  const name = it.name === undefined ? '' : ` at ${it.name}`;
  const what = 'expected a program that does not need the number of its replica';
  return new PodError('unsupported-program', `${it.opcode}${name}: ${what}: no core knows it`);
}
