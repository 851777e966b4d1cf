import { type EvaluateInputs, evaluateReplicas } from '../../src/hlo/evaluate.ts';
import type { HloInstruction, HloModule } from '../../src/hlo/instruction.ts';
import { postOrder } from '../../src/hlo/traverse.ts';
import { valuesOf } from '../../src/numerics/literal.ts';

/**
 * True if a `bitcast-convert` of the program makes an integer of a NaN. Neither HLO nor the
 * processor defines the bits of a NaN, so the integer is not defined either. It may even differ
 * between two evaluations in JavaScript. `options` are those of `evaluateReplicas`.
 */
export function castsNan(
  module: HloModule,
  replicas: readonly EvaluateInputs[],
  options?: Parameters<typeof evaluateReplicas>[2],
): boolean {
  return postOrder(module.entry.root).some(({ opcode, operands: [operand], shape }) => {
    if (opcode !== 'bitcast-convert' || operand === undefined || isFloat(shape)) return false;
    const ending = { ...module, entry: { ...module.entry, root: operand }, aliases: [] };
    const found = evaluateReplicas(ending, replicas, options);
    return found.some(({ values }) => values.some((it) => valuesOf(it).some(Number.isNaN)));
  });
}

function isFloat(shape: HloInstruction['shape']): boolean {
  return shape.type === 'f32' || shape.type === 'bf16';
}
