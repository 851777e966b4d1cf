import type { HloInstruction, HloModule } from '../../hlo/instruction.ts';
import { definitionOf, effectOf } from '../../hlo/ops.ts';
import { mapInstructions, withOperands } from '../../hlo/traverse.ts';
import { structureKey } from '../structure.ts';

/**
 * Eliminates common subexpressions: instructions with equal opcode, attributes and operands become
 * one instruction. Instructions with an effect are joined only if they combine values of replicas.
 * Barriers are never joined.
 */
export function cse(module: HloModule): HloModule {
  const numbers = new Map<HloInstruction, number>();
  const known = new Map<string, HloInstruction>();
  const entry = mapInstructions(module.entry, (it, operands) => {
    const now = withOperands(it, operands);
    if (isOrdered(now) || definitionOf(now.opcode).isBarrier) return remember(now);
    const key = structureKey(now, (operand) => numbers.get(operand)!);
    const first = known.get(key);
    if (first !== undefined) return first;
    known.set(key, now);
    return remember(now);
  });
  return { ...module, entry };

  function remember(it: HloInstruction): HloInstruction {
    numbers.set(it, numbers.size);
    return it;
  }
}

/** True if the instruction exchanges data with the host, or orders instructions that do. */
function isOrdered(it: HloInstruction): boolean {
  const effect = effectOf(it);
  return effect !== undefined && effect !== 'exchanges';
}
