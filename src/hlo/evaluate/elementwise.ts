import { unreachable } from '../../numerics/assert.ts';
import { type ElementType, elementTypes } from '../../numerics/element-type.ts';
import { truncateTo } from '../../numerics/f32-ops.ts';
import { numbersOfType } from '../../numerics/literal.ts';
import type { Compare } from '../instruction.ts';
import { asType } from './value.ts';

/**
 * Returns a function that compares a with b: 1 if the comparison holds, otherwise 0. If a or b is
 * NaN, NE returns 1 and all other comparisons return 0.
 */
export function comparison(direction: Compare['direction']): (a: number, b: number) => number {
  switch (direction) {
    case 'EQ':
      return (a, b) => Number(a === b);
    case 'NE':
      return (a, b) => Number(a !== b);
    case 'LT':
      return (a, b) => Number(a < b);
    case 'LE':
      return (a, b) => Number(a <= b);
    case 'GT':
      return (a, b) => Number(a > b);
    case 'GE':
      return (a, b) => Number(a >= b);
    default:
      return unreachable(direction);
  }
}

/**
 * Returns the function that converts one value.
 *
 * - From float to integer: the value is rounded towards zero and limited to the range of the
 *   integer type. NaN becomes 0.
 * - From integer to integer: the value wraps modulo 2^bits.
 * - To pred: 0 becomes false, every other value true.
 * - From integer to bf16: the value is rounded twice, first to f32 and then to bf16.
 */
export function conversion(from: ElementType, to: ElementType): (x: number) => number {
  if (to === 'pred') return (x) => Number(x !== 0);
  const { range } = numbersOfType(to);
  if (elementTypes[from].kind === 'float' && range !== undefined) {
    return (x) => truncateTo(x, range.least, range.most);
  }
  return (x) => asType(to, x);
}
