import { full } from '../hlo/build.ts';
import { dynamicSlice, dynamicUpdateSlice } from '../hlo/build-indexed.ts';
import type { DynamicSlice, DynamicUpdateSlice, HloInstruction } from '../hlo/instruction.ts';
import { arrayOf, type Contribution, operand, toOperands } from './rule.ts';

/** The cotangent of a slice goes back to the places of the slice; all others get 0. */
export function dynamicSliceRule(it: DynamicSlice, ct: HloInstruction): Contribution[] {
  const starts = it.operands.slice(1);
  return toOperands(it, () => dynamicUpdateSlice(zerosLike(operand(it, 0)), ct, starts));
}

/** The cotangent of the replaced slice belongs to the update, the rest of it to the array. */
export function dynamicUpdateSliceRule(it: DynamicUpdateSlice, ct: HloInstruction): Contribution[] {
  const update = operand(it, 1);
  const starts = it.operands.slice(2);
  return toOperands(
    it,
    () => dynamicUpdateSlice(ct, zerosLike(update), starts),
    () => dynamicSlice(ct, starts, arrayOf(update).dims),
  );
}

function zerosLike(it: HloInstruction): HloInstruction {
  const { type, dims } = arrayOf(it);
  return full(type, dims, 0);
}
