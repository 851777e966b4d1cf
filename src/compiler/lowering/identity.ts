import { scalar } from '../../hlo/build.ts';
import type { HloInstruction } from '../../hlo/instruction.ts';
import { calledFrom, postOrder } from '../../hlo/traverse.ts';
import { PodError } from '../../numerics/error.ts';
import type { Lowerings } from './lowering.ts';

/**
 * Lowering of the operations that say where a program runs. Loading the program writes the number of
 * the replica into the memory of each core.
 */
export const identity: Lowerings<'replica-id' | 'partition-id'> = {
  'replica-id': { name: (it, to) => [to.replicaId(it)] },
  'partition-id': { name: (_, to) => [to.constant(scalar('u32', 0))] },
};

/**
 * Refuses an instruction if a computation that it calls asks for the number of the replica. Plain code
 * must not run such an instruction, because it runs on all cores as if they were replica 0.
 */
export function refuseReplicaId(it: HloInstruction): void {
  for (const { name, root } of calledFrom(it)) {
    if (!postOrder(root).some(({ opcode }) => opcode === 'replica-id')) continue;
    const place = it.name === undefined ? it.opcode : `${it.opcode} ${it.name}`;
    const found = `the computation ${name} of ${place} has one`;
    const what = 'expected each replica-id in the entry computation';
    throw new PodError('unsupported-program', `${what}, found that ${found}`);
  }
}
