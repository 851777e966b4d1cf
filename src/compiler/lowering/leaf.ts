import type { ElementType, Scalar } from '../../numerics/element-type.ts';
import { bitsFromF32 } from '../../numerics/f32-ops.ts';
import { type Literal, valueAt } from '../../numerics/literal.ts';
import { arrayRefusal } from './loop.ts';
import type { Lowerings } from './lowering.ts';

/** Lowering of the opcodes that bring a value into a computation. */
export const leaf: Lowerings<'parameter' | 'constant'> = {
  parameter: {
    loop: { element: (it, point, to) => to.parameter(it, point) },
    name: (it, to) => [to.parameter(it.index)],
  },
  constant: {
    loop: {
      element: (it, _, to) => [to.lanes.bits(wordOf(it.value))],
      // Generated code has no memory for constants. A constant array with different elements must
      // be a parameter of the loop instead.
      refusal: (it) =>
        new Set<Scalar>(it.value.data as Iterable<Scalar>).size <= 1
          ? arrayRefusal(it.shape)
          : 'a constant array',
    },
    name: (it, to) => [to.constant(it)],
  },
};

/**
 * Returns the 32 bits that a lane holds for a constant. All elements of the constant must be equal.
 */
function wordOf(literal: Literal): number {
  return elementWord(literal.shape.type, valueAt(literal, 0));
}

function elementWord(type: ElementType, value: number): number {
  if (type === 'pred') return value === 0 ? 0 : -1;
  return type === 'f32' || type === 'bf16' ? bitsFromF32(value) : value;
}
