import type { Scalar } from '../../numerics/element-type.ts';
import { type Literal, literalFrom, scalarAt } from '../../numerics/literal.ts';
import type { ArrayShape } from '../../numerics/shape.ts';

/** Computes one element of a result from the elements of one to three operands. */
export type ElementFunction = (x: Scalar, y: Scalar, z: Scalar) => Scalar;

/**
 * Applies a function to the elements of one to three operands, element by element. If an operand
 * has a single element, this element is used at every position.
 */
export function mapped(
  shape: ArrayShape,
  operands: readonly Literal[],
  element: ElementFunction,
): Literal {
  const [a, b, c] = operands.map((operand) => {
    const spread = operand.data.length === 1 ? 0 : 1;
    return (i: number): Scalar => scalarAt(operand, i * spread);
  });
  const none = (): number => 0;
  const second = b ?? none;
  const third = c ?? none;
  return literalFrom(shape, (i) => element(a!(i), second(i), third(i)));
}
