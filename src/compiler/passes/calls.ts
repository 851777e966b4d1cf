import type { HloComputation } from '../../hlo/instruction.ts';
import { inlined, mapInstructions, withOperands } from '../../hlo/traverse.ts';

/**
 * Returns a computation in which each `call` is replaced by the instructions of the called
 * computation. Calls in loops and branches stay, because plain code runs these as a whole.
 */
export function withoutCalls(computation: HloComputation): HloComputation {
  return mapInstructions(computation, (it, operands) => {
    const now = withOperands(it, operands);
    return now.opcode === 'call' ? inlined(withoutCalls(now.body), now.operands) : now;
  });
}
