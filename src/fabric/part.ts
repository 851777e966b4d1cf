import type { Direction } from './torus.ts';
import { isForward } from './torus.ts';

/**
 * Partition of an all-reduce. The vector is cut into four lanes. A lane is cut into one chunk for
 * each chip of the ring on its first axis. On the second axis, a chunk is cut again in the same
 * way. This cut depends only on the vector's length and the torus, and it determines the order of
 * every sum (docs/ARCHITECTURE.md, "Order of sums"). How parts are sent in frames does not change a
 * sum.
 */

/**
 * How many lanes a vector is cut into. The index of a lane is 2 · colour + direction. A lane of
 * colour 0 starts on axis X, a lane of colour 1 on axis Y. Direction 0 is forward, 1 is backward.
 */
export const laneCount = 4;

/**
 * Largest number of elements of a frame (256 KiB). A received payload of this size, and the range
 * to which the payload is added, stay in a processor cache.
 */
export const frameElementsMax = 65536;

/**
 * A vector is cut only at multiples of this many elements, so its parts begin at multiples of 16
 * bytes from the start of the vector.
 */
const unit = 4;

/**
 * Returns the offset, in elements, at which part number `index` (from 0) starts if a range of
 * `length` elements is cut into `parts` parts. Parts differ in length by at most one unit of four
 * elements. With `index = parts` returns the end of the range.
 */
export function partStart(length: number, parts: number, index: number): number {
  const units = Math.ceil(length / unit);
  return Math.min(length, unit * Math.floor((index * units) / parts));
}

/**
 * Returns the length, in elements, of part number `index` (from 0) if a range of `length` elements
 * is cut into `parts` parts.
 */
export function partLength(length: number, parts: number, index: number): number {
  return partStart(length, parts, index + 1) - partStart(length, parts, index);
}

/**
 * Returns the number of elements of the longest part if `length` elements are cut into `parts`
 * parts.
 */
export function longestPart(length: number, parts: number): number {
  return Math.min(length, unit * Math.ceil(Math.ceil(length / unit) / parts));
}

/**
 * Returns the direction in which a lane's chunks travel along the lane's first (`turn` 0) or second
 * (`turn` 1) axis. Lanes of colour 0 (lanes 0 and 1) run along X first and then along Y, lanes of
 * colour 1 (lanes 2 and 3) along Y first. A backward lane runs towards smaller coordinates on both
 * axes.
 */
export function laneDirection(lane: number, turn: 0 | 1): Direction {
  const axis = (lane >> 1) ^ turn;
  return (2 * axis + (lane & 1)) as Direction;
}

/**
 * Returns the index of the chunk that a chip receives, sends, or both, at the hop number `hops`
 * (from 0) of a phase. The chip is at `position` in a ring of `length` chips, and its own chunk has
 * the index `position`. In the reduce-scatter, the own chunk comes at the last hop. In the
 * all-gather (`gathering` is true), the own chunk comes at hop 0.
 */
export function chunkAt(
  direction: Direction,
  length: number,
  position: number,
  hops: number,
  gathering: boolean,
): number {
  const behind = gathering ? hops : hops + 1;
  const back = isForward(direction) ? length - behind : behind;
  return (position + back + length) % length;
}
