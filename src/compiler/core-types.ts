import type { HloInstruction, HloModule } from '../hlo/instruction.ts';
import { computationsOf, postOrder } from '../hlo/traverse.ts';
import { coreTypes } from '../numerics/element-type.ts';
import { PodError } from '../numerics/error.ts';
import { leaves } from './lowering/step.ts';

/**
 * Checks that a module has only element types with which the core of a chip computes. Throws
 * `unsupported-program` for the first other type; the message names the instruction.
 */
export function requireCoreTypes({ entry }: HloModule): void {
  for (const { parameters, root } of computationsOf(entry)) {
    postOrder([...parameters, root]).forEach(requireTypesOf);
  }
}

function requireTypesOf(it: HloInstruction): void {
  for (const { type } of leaves(it.shape)) {
    if (coreTypes.includes(type)) continue;
    const name = it.name === undefined ? it.opcode : `${it.opcode} ${it.name}`;
    const expected = `expected elements of type ${coreTypes.join(', ')}`;
    const advice = 'a core computes with no other types; convert the array';
    throw new PodError('unsupported-program', `${name}: ${expected}, found ${type}; ${advice}`);
  }
}
