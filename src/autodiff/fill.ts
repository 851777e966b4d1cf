import { broadcastScalar, full, scalar } from '../hlo/build.ts';
import type { HloInstruction } from '../hlo/instruction.ts';
import { arrayOf } from './rule.ts';

/** An array of the shape of `x`, filled with `value`. */
export function filled(x: HloInstruction, value: number): HloInstruction {
  const { type, dims } = arrayOf(x);
  return dims.length === 0 ? scalar(type, value) : full(type, dims, value);
}

/** Returns `x` if it has the rank of `target`; otherwise broadcasts the scalar `x` to that size. */
export function like(x: HloInstruction, target: HloInstruction): HloInstruction {
  const { dims } = arrayOf(target);
  return arrayOf(x).dims.length === dims.length ? x : broadcastScalar(x, dims);
}
