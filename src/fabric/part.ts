import type { Direction } from './torus.ts';
import { isForward } from './torus.ts';

/**
 * Who sums what: the vector of an all-reduce is cut into four lanes, lanes into chunks, chunks
 * into pieces. The cut depends on the vector's length and on the torus alone, and it fixes the order of
 * every sum (docs/ARCHITECTURE.md, "Order of sums").
 */

/** Lane = 2 · colour + (0 forward, 1 backward). */
export const laneCount = 4;

/** The most elements of a frame, 256 KiB: what is received and what it is added to stay in a cache. */
export const frameElementsMax = 65536;

/** Boundaries fall on multiples of 16 bytes from the start of the vector. */
const unit = 4;

/**
 * Where part `index` of `parts` starts in a range of `length` elements: parts differ by at most
 * one unit of four elements, and `index = parts` gives the end.
 */
export function partStart(length: number, parts: number, index: number): number {
  const units = Math.ceil(length / unit);
  return Math.min(length, unit * Math.floor((index * units) / parts));
}

/** Elements of part `index` of `parts`. */
export function partLength(length: number, parts: number, index: number): number {
  return partStart(length, parts, index + 1) - partStart(length, parts, index);
}

/** The most elements that any of `parts` has. */
export function longestPart(length: number, parts: number): number {
  return Math.min(length, unit * Math.ceil(Math.ceil(length / unit) / parts));
}

/**
 * The direction in which a lane's chunks travel along its first (0) or second (1) axis: colour 0
 * starts on X, colour 1 on Y; a backward lane runs towards smaller coordinates on both.
 */
export function laneDirection(lane: number, turn: 0 | 1): Direction {
  const axis = (lane >> 1) ^ turn;
  return (2 * axis + (lane & 1)) as Direction;
}

/**
 * The chunk that a chip at `position` of a ring of `length` has in hands after `hops` hops since
 * the chunk's owner, `reduce-scatter` counted so that the chip owns its chunk after length − 1.
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
