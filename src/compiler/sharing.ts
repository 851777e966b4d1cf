import type { HloInstruction } from '../hlo/instruction.ts';
import { replicaValuesOf } from '../hlo/ops.ts';
import { makesDiffer } from '../hlo/replicas.ts';
import { postOrder } from '../hlo/traverse.ts';

/**
 * Returns the instructions whose values may differ between the cores of a Cloud TPU. These are the
 * instructions whose opcode makes replicas differ, such as the infeed, or that call a computation
 * with such an instruction. They are also the instructions that depend on them through a path
 * without an all-reduce. All other values are computed and stored once for all cores.
 */
export function variesByCore(roots: readonly HloInstruction[]): Set<HloInstruction> {
  const varies = new Set<HloInstruction>();
  for (const it of postOrder(roots)) {
    const replicas = replicaValuesOf(it);
    const inherits = replicas === undefined && it.operands.some((operand) => varies.has(operand));
    if (inherits || makesDiffer(it)) varies.add(it);
  }
  return varies;
}
