import { at } from '../numerics/assert.ts';
import type { Torus } from './torus.ts';

/**
 * Computes the sum of an all-reduce element by element, directly from the formula in
 * docs/ARCHITECTURE.md, "Order of sums". Tests compare the real all-reduce with this function, bit
 * for bit. The index of a vector in `vectors` is the number of its chip. All vectors have the same
 * length.
 */
export function serialSum(torus: Torus, vectors: readonly Float32Array[]): Float32Array {
  const { length } = at(vectors, 0);
  const sum = new Float32Array(length);
  for (let element = 0; element < length; element++) {
    sum[element] = serialElement(torus, length, element, (chip) => at(at(vectors, chip), element));
  }
  return sum;
}

/**
 * Returns one element of the sum of {@link serialSum}: the element with index `element`. Each chip
 * has a vector of `length` f32 elements, and `value(chip)` is the element with this index in it.
 */
export function serialElement(
  torus: Torus,
  length: number,
  element: number,
  value: (chip: number) => number,
): number {
  const lane = partOf(length, 4, element);
  const startsOnX = lane.index < 2;
  const step = lane.index % 2 === 0 ? 1 : -1;
  const firstLength = startsOnX ? torus.width : torus.height;
  const secondLength = startsOnX ? torus.height : torus.width;
  const chunk = partOf(lane.length, firstLength, lane.element);
  const piece = partOf(chunk.length, secondLength, chunk.element);
  return ringSum(secondLength, piece.index, step, (second) =>
    ringSum(firstLength, chunk.index, step, (first) =>
      value(startsOnX ? second * torus.width + first : first * torus.width + second),
    ),
  );
}

/**
 * Returns the f32 sum of the values at the `length` positions of a ring. The sum starts with the
 * value at the position after `last`, and goes round the ring by steps of `step` (1 or −1). So the
 * value at position `last` is added last.
 */
function ringSum(
  length: number,
  last: number,
  step: number,
  value: (position: number) => number,
): number {
  let position = (last + step + length) % length;
  let sum = value(position);
  while (position !== last) {
    position = (position + step + length) % length;
    sum = Math.fround(sum + value(position));
  }
  return sum;
}

interface Part {
  readonly index: number;
  readonly length: number;
  /** Index of the element, counted from the start of the part. */
  readonly element: number;
}

/**
 * Cuts a range of `length` elements into `parts` parts, and returns the part that contains the
 * element with index `element`. The part with index i starts at min(length, 4 · ⌊i · ⌈length / 4⌉ /
 * parts⌋).
 */
function partOf(length: number, parts: number, element: number): Part {
  const start = (index: number): number =>
    Math.min(length, 4 * Math.floor((index * Math.ceil(length / 4)) / parts));
  let index = parts - 1;
  while (start(index) > element) index--;
  return { index, length: start(index + 1) - start(index), element: element - start(index) };
}
