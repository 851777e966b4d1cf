import { elementTypes, type Scalar } from '../../numerics/element-type.ts';
import { type Literal, scalarAt } from '../../numerics/literal.ts';
import { wordsOf } from './value.ts';

/**
 * Returns the function from an offset in an array to a number. These numbers are in the order of
 * the elements. Floats are in the total order of IEEE 754, which follows from their bits, by sign
 * and then by magnitude: −NaN, −∞, …, −0, +0, …, +∞, +NaN.
 */
export function totalOrder(x: Literal): (offset: number) => Scalar {
  const { kind, bits } = elementTypes[x.shape.type];
  if (kind !== 'float') return (i) => scalarAt(x, i);
  const words = wordsOf(x);
  const sign = 2 ** (bits - 1);
  return (i) => {
    const word = Number(words[i]);
    return word < sign ? word : sign - 1 - word;
  };
}
