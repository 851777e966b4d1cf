import type { HloInstruction } from './instruction.ts';
import { replicaValuesOf } from './ops.ts';
import { calledFrom, postOrder } from './traverse.ts';

/**
 * True if an instruction may give replicas different values from equal operands: its opcode does, or
 * an opcode in a computation that it calls.
 */
export function makesDiffer(it: HloInstruction): boolean {
  return differs(it) || calledFrom(it).some(({ root }) => postOrder(root).some(differs));
}

function differs(it: HloInstruction): boolean {
  return replicaValuesOf(it) === 'differ';
}
