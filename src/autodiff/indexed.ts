import { dynamicSlice, dynamicUpdateSlice } from '../hlo/build-indexed.ts';
import type { DynamicSlice, DynamicUpdateSlice, HloInstruction } from '../hlo/instruction.ts';
import { filled } from './fill.ts';
import { arrayOf, type Contribution, operand, toOperands } from './rule.ts';

/** The cotangent of a slice goes back to the places of the slice; all others get 0. */
export function dynamicSliceRule(it: DynamicSlice, ct: HloInstruction): Contribution[] {
  const starts = it.operands.slice(1);
  return toOperands(it, () => dynamicUpdateSlice(filled(operand(it, 0), 0), ct, starts));
}

/** The cotangent of the replaced slice belongs to the update, the rest of it to the array. */
export function dynamicUpdateSliceRule(it: DynamicUpdateSlice, ct: HloInstruction): Contribution[] {
  const update = operand(it, 1);
  const starts = it.operands.slice(2);
  return toOperands(
    it,
    () => dynamicUpdateSlice(ct, filled(update, 0), starts),
    () => dynamicSlice(ct, starts, arrayOf(update).dims),
  );
}
