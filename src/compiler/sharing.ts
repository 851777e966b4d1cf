import type { HloInstruction } from '../hlo/instruction.ts';
import { postOrder } from '../hlo/traverse.ts';

/**
 * Returns the instructions whose values may differ between the cores of a Cloud TPU. These are the
 * instructions that depend on the infeed through a path without an all-reduce. All other values are
 * computed and stored once for all cores.
 */
export function variesByCore(roots: readonly HloInstruction[]): Set<HloInstruction> {
  const varies = new Set<HloInstruction>();
  for (const it of postOrder(roots)) {
    if (it.opcode === 'infeed') varies.add(it);
    if (it.opcode === 'all-reduce') continue;
    if (it.operands.some((operand) => varies.has(operand))) varies.add(it);
  }
  return varies;
}
