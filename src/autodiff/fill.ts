import { broadcastScalar, full, scalar } from '../hlo/build.ts';
import type { HloInstruction } from '../hlo/instruction.ts';
import { arrayOf } from './rule.ts';

/** Returns an array with the shape and type of `x` in which every element is `value`. */
export function filled(x: HloInstruction, value: number): HloInstruction {
  const { type, dims } = arrayOf(x);
  return dims.length === 0 ? scalar(type, value) : full(type, dims, value);
}

/**
 * Broadcasts a scalar `x` to the dimensions of `target`. If `x` already has as many dimensions as
 * `target`, returns `x` itself.
 */
export function like(x: HloInstruction, target: HloInstruction): HloInstruction {
  const { dims } = arrayOf(target);
  return arrayOf(x).dims.length === dims.length ? x : broadcastScalar(x, dims);
}
