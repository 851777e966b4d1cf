import type { HloComputation } from '../../hlo/instruction.ts';
import { inlined, mapInstructions, withOperands } from '../../hlo/traverse.ts';

/**
 * Returns a computation in which each `call` and each `fusion` is replaced by the instructions of its
 * computation. A program that XLA has compiled has fusions for other hardware; the pass `fuse` makes
 * those of this compiler. Calls in loops and branches stay, because plain code runs these as a whole.
 */
export function withoutCalls(computation: HloComputation): HloComputation {
  return mapInstructions(computation, (it, operands) => {
    const now = withOperands(it, operands);
    const isInlined = now.opcode === 'call' || now.opcode === 'fusion';
    return isInlined ? inlined(withoutCalls(now.body), now.operands) : now;
  });
}
