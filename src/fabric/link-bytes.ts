import { laneCount, partLength } from './part.ts';
import type { Direction, Torus } from './torus.ts';
import { axisLength, axisOf, isForward, position } from './torus.ts';

/**
 * Returns how many payload bytes one all-reduce of `elements` f32 elements sends over one directed
 * link. This link leaves `chip` in `direction`. In each phase of the all-reduce, a range is cut
 * into one chunk for each chip of the ring. In a reduce-scatter, a chip sends every chunk except
 * its own. In an all-gather, a chip sends every chunk except that of the next chip.
 */
export function linkBytesFormula(
  torus: Torus,
  elements: number,
  chip: number,
  direction: Direction,
): number {
  const axis = axisOf(direction);
  if (axisLength(torus, axis) === 1) return 0;
  const backward = isForward(direction) ? 0 : 1;
  const startingHere = 2 * axis + backward;
  const startingOnOther = 2 * (1 - axis) + backward;
  const other = axis === 0 ? 1 : 0;
  const ofOther = partLength(
    partLength(elements, laneCount, startingOnOther),
    axisLength(torus, other),
    position(torus, chip, other),
  );
  const first = partLength(elements, laneCount, startingHere);
  return (
    4 * (sentOnRing(torus, chip, direction, first) + sentOnRing(torus, chip, direction, ofOther))
  );
}

/**
 * Returns how many elements the given chip sends to the next chip of its ring during the
 * reduce-scatter and the all-gather of a range of `length` elements.
 */
function sentOnRing(torus: Torus, chip: number, direction: Direction, length: number): number {
  const axis = axisOf(direction);
  const ring = axisLength(torus, axis);
  const own = position(torus, chip, axis);
  const next = (own + (isForward(direction) ? 1 : ring - 1)) % ring;
  return 2 * length - partLength(length, ring, own) - partLength(length, ring, next);
}
