import { unreachable } from '../../numerics/assert.ts';
import {
  type ElementType,
  elementTypes,
  type Scalar,
  type StoredBigints,
} from '../../numerics/element-type.ts';
import { truncateTo } from '../../numerics/f32-ops.ts';
import { storedOf } from '../../numerics/literal.ts';
import type { Compare } from '../instruction.ts';
import { rounderOf } from './value.ts';

/**
 * Returns a function that compares a with b: 1 if the comparison holds, otherwise 0. If a or b is
 * NaN, NE returns 1 and all other comparisons return 0.
 */
export function comparison(direction: Compare['direction']): (a: Scalar, b: Scalar) => number {
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
export function conversion(from: ElementType, to: ElementType): (x: Scalar) => Scalar {
  if (to === 'pred') return (x) => Number(Number(x) !== 0);
  const isFloat = elementTypes[from].kind === 'float';
  const stored = storedOf(to);
  if (stored.isWide) return isFloat ? (x) => truncateToWide(Number(x), stored.range) : BigInt;
  const { range } = stored;
  if (range === undefined) {
    const round = rounderOf(to);
    return (x) => round(typeof x === 'bigint' ? oddNumber(x) : x);
  }
  if (isFloat) return (x) => truncateTo(Number(x), range.least, range.most);
  return (x) => Number(BigInt.asIntN(32, BigInt(x)));
}

/** Returns the greater of two 64-bit integers. */
export function wideMaximum(a: bigint, b: bigint): bigint {
  return a - b > 0n ? a : b;
}

/** Returns the lesser of two 64-bit integers. */
export function wideMinimum(a: bigint, b: bigint): bigint {
  return a - b < 0n ? a : b;
}

/** Rounds a number towards zero and limits it to a range of 64-bit integers. NaN becomes 0. */
function truncateToWide(value: number, { least, most }: StoredBigints['range']): bigint {
  if (Number.isNaN(value)) return 0n;
  if (value >= Number(most)) return most;
  return value <= Number(least) ? least : BigInt(Math.trunc(value));
}

/**
 * Returns an integer as a number with 53 bits. If bits are cut off that are not all zero, the last
 * bit is set. So the number, rounded to a type with fewer bits, is the integer rounded once.
 */
function oddNumber(value: bigint): number {
  const magnitude = value < 0n ? -value : value;
  const cut = BigInt(Math.max(0, magnitude.toString(2).length - 53));
  const kept = magnitude >> cut;
  const isExact = kept << cut === magnitude;
  const odd = Number(isExact ? kept : kept | 1n) * 2 ** Number(cut);
  return value < 0n ? -odd : odd;
}
