import type { HloInstruction, HloModule, Opcode } from '../../hlo/instruction.ts';
import { mapInstructions, withOperands } from '../../hlo/traverse.ts';
import { structureKey } from '../structure.ts';

/**
 * Eliminates common subexpressions: instructions with equal opcode, attributes and operands become
 * one instruction. Parameters, infeeds, outfeeds and `after-all` tokens are never joined.
 */
export function cse(module: HloModule): HloModule {
  const numbers = new Map<HloInstruction, number>();
  const known = new Map<string, HloInstruction>();
  const entry = mapInstructions(module.entry, (it, operands) => {
    const now = withOperands(it, operands);
    if (neverMerged.has(now.opcode)) return remember(now);
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

const neverMerged: ReadonlySet<Opcode> = new Set<Opcode>([
  'parameter',
  'infeed',
  'outfeed',
  'after-all',
]);
