import type { HloInstruction } from '../hlo/instruction.ts';
import { postOrder } from '../hlo/traverse.ts';

/**
 * The instructions whose values may differ between the cores of a Cloud TPU: what depends on the
 * infeed other than through an all-reduce. All else is computed and held once for eight cores.
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
