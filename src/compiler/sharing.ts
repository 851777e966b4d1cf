import type { HloInstruction } from '../hlo/instruction.ts';
import { postOrder } from '../hlo/traverse.ts';

/**
 * Returns the instructions whose values may differ between the cores of a Cloud TPU: those that
 * depend on the infeed by a path without an all-reduce. Any other value is computed and held once
 * for all eight cores.
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
