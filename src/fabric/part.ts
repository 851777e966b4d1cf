import type { Direction } from './torus.ts';
import { isForward } from './torus.ts';

/**
 * How an all-reduce cuts a vector. The vector is cut into four lanes. On the first axis of a lane,
 * the lane is cut into chunks, one for each chip of the ring. On the second axis, each chunk is cut
 * into pieces, one for each chip of that ring. These cuts depend only on the length of the vector
 * and on the torus. They determine the order of every sum (docs/ARCHITECTURE.md, "Order of sums").
 * Frames may cut a chunk or a piece further, but this does not change a sum.
 */

/**
 * Number of lanes into which a vector is cut. The index of a lane is 2 · colour + direction. A lane
 * of colour 0 is summed first along X, a lane of colour 1 first along Y. Direction 0 runs towards
 * larger coordinates (forward), direction 1 towards smaller ones (backward).
 */
export const laneCount = 4;

/**
 * Largest number of elements of a frame (256 KiB). A received payload of this size, and the range
 * to which the payload is added, stay in a processor cache.
 */
export const frameElementsMax = 65536;

/**
 * A vector is cut only at multiples of this many elements. So each part begins at a multiple of 16
 * bytes from the start of the vector.
 */
const unit = 4;

/**
 * Cuts a range of `length` elements into `parts` parts, and returns the offset, in elements, at
 * which the part with index `index` starts. If `index` equals `parts`, returns the end of the
 * range. The lengths of two parts differ by at most four elements.
 */
export function partStart(length: number, parts: number, index: number): number {
  const units = Math.ceil(length / unit);
  return Math.min(length, unit * Math.floor((index * units) / parts));
}

/**
 * Cuts a range of `length` elements into `parts` parts, and returns the number of elements of the
 * part with index `index`.
 */
export function partLength(length: number, parts: number, index: number): number {
  return partStart(length, parts, index + 1) - partStart(length, parts, index);
}

/**
 * Cuts a range of `length` elements into `parts` parts, and returns the number of elements of the
 * longest part.
 */
export function longestPart(length: number, parts: number): number {
  return Math.min(length, unit * Math.ceil(Math.ceil(length / unit) / parts));
}

/**
 * Returns the direction in which a lane's chunks travel along one axis. `turn` is 0 for the lane's
 * first axis and 1 for its second axis. For lanes 0 and 1 (colour 0), the first axis is X and the
 * second Y. For lanes 2 and 3 (colour 1), the first axis is Y and the second X. Lanes with an odd
 * index travel towards smaller coordinates on both axes.
 */
export function laneDirection(lane: number, turn: 0 | 1): Direction {
  const axis = (lane >> 1) ^ turn;
  return (2 * axis + (lane & 1)) as Direction;
}

/**
 * Returns the index of the chunk that a chip handles at one hop of a phase. `hops` is the number of
 * hops before this one. The chip is at position `position` in a ring of `length` chips, and its own
 * chunk has the same index. In the reduce-scatter, the chip handles its own chunk at the last hop.
 * In the all-gather (`gathering` is true), the chip handles its own chunk at the first hop.
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
