import type { HloInstruction } from '../hlo/instruction.ts';
import { definitionOf } from '../hlo/ops.ts';
import { postOrder } from '../hlo/traverse.ts';

/**
 * Returns the instructions whose values may differ between the cores of a Cloud TPU. These are the
 * instructions whose opcode makes replicas differ, such as the infeed, and the instructions that
 * depend on them through a path without an all-reduce. All other values are computed and stored
 * once for all cores.
 */
export function variesByCore(roots: readonly HloInstruction[]): Set<HloInstruction> {
  const varies = new Set<HloInstruction>();
  for (const it of postOrder(roots)) {
    const { replicas } = definitionOf(it.opcode);
    const inherits = replicas === undefined && it.operands.some((operand) => varies.has(operand));
    if (replicas === 'differ' || inherits) varies.add(it);
  }
  return varies;
}
