import { type EvaluateInputs, evaluateReplicas } from '../../src/hlo/evaluate.ts';
import type { HloModule } from '../../src/hlo/instruction.ts';
import { postOrder } from '../../src/hlo/traverse.ts';
import { scalarsOf } from '../../src/numerics/literal.ts';

/**
 * True if a `bitcast-convert` of the program takes the bits of a NaN. Neither HLO nor the processor
 * defines these bits, so the result is not defined either. It may even differ
 * between two evaluations in JavaScript. `options` are those of `evaluateReplicas`.
 */
export function castsNan(
  module: HloModule,
  replicas: readonly EvaluateInputs[],
  options?: Parameters<typeof evaluateReplicas>[2],
): boolean {
  return postOrder(module.entry.root).some(({ opcode, operands: [operand] }) => {
    if (opcode !== 'bitcast-convert' || operand === undefined) return false;
    const ending = { ...module, entry: { ...module.entry, root: operand }, aliases: [] };
    const found = evaluateReplicas(ending, replicas, options);
    return found.some(({ values }) => values.some((it) => scalarsOf(it).some(Number.isNaN)));
  });
}
