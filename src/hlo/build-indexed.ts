import { make } from './build.ts';
import type { DynamicSlice, DynamicUpdateSlice, HloInstruction } from './instruction.ts';

/** The slice of `x` with the given sizes, at scalars that give the start along each dimension. */
export function dynamicSlice(
  x: HloInstruction,
  starts: readonly HloInstruction[],
  sizes: readonly number[],
): DynamicSlice {
  return make<DynamicSlice>({ opcode: 'dynamic-slice', operands: [x, ...starts], sizes });
}

/** `x` with a slice replaced by `update`, at scalars that give the start along each dimension. */
export function dynamicUpdateSlice(
  x: HloInstruction,
  update: HloInstruction,
  starts: readonly HloInstruction[],
): DynamicUpdateSlice {
  const operands = [x, update, ...starts];
  return make<DynamicUpdateSlice>({ opcode: 'dynamic-update-slice', operands });
}
