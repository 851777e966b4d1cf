import { type Literal, valueAt } from '../../numerics/literal.ts';
import type { ArrayShape } from '../../numerics/shape.ts';
import { literalFrom } from './value.ts';

/**
 * Applies a function to the elements of one to three operands, element by element. If an operand
 * has a single element, this element is used at every position.
 */
export function mapped(
  shape: ArrayShape,
  operands: readonly Literal[],
  element: (x: number, y: number, z: number) => number,
): Literal {
  const [a, b, c] = operands.map((operand) => {
    const spread = operand.data.length === 1 ? 0 : 1;
    return (i: number): number => valueAt(operand, i * spread);
  });
  const none = (): number => 0;
  const second = b ?? none;
  const third = c ?? none;
  return literalFrom(shape, (i) => element(a!(i), second(i), third(i)));
}
