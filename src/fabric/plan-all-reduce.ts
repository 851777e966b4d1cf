import { chunkAt, laneCount, laneDirection, longestPart, partLength, partStart } from './part.ts';
import { type Hop, type LaneAxis, type LanePlan, lanePlan } from './plan.ts';
import { axisLength, axisOf, type Direction, position, type Torus } from './torus.ts';

/** A lane of one chip: a quarter of each vector. */
export interface LaneOfChip {
  readonly torus: Torus;
  readonly chip: number;
  readonly lane: number;
}

/** The vector of a chip in memory, and how an all-reduce treats it. */
export interface AllReduceOf extends LaneOfChip {
  /** Byte address of the vector. */
  readonly address: number;
  /** Number of f32 elements of the vector. */
  readonly elements: number;
  /** Largest number of elements of a frame. */
  readonly frameElements: number;
  /**
   * True if this chip's vector must hold the sum when the all-reduce is done. If false, the chip
   * still sends every frame that the next chip needs.
   */
  readonly keepsSum: boolean;
}

/** The ring of chips on one axis of a lane, with the position of this chip in the ring. */
interface Ring {
  readonly direction: Direction;
  readonly length: number;
  readonly position: number;
}

/** A range of a vector, in elements. */
interface Range {
  readonly start: number;
  readonly length: number;
}

interface Phase {
  readonly name: 'reduce-scatter' | 'all-reduce' | 'all-gather';
  readonly axis: LaneAxis;
  readonly ring: Ring;
  /** The range that is cut into chunks, one for each chip of the ring. */
  readonly range: Range;
  readonly gathers: boolean;
  /** Number of the first hop of the phase. */
  readonly firstHop: number;
}

/**
 * Returns the hops of one lane of one chip for an all-reduce. There are four phases:
 *
 * 0. reduce-scatter on the first axis
 * 1. reduce-scatter of the chip's own chunk on the second axis
 * 2. all-gather of the chip's own chunk on the second axis
 * 3. all-gather on the first axis
 *
 * In a ring of n chips, a phase has n hops. At the first hop, the chip sends a chunk. At each of
 * the next n − 2 hops, the chip receives a chunk, sums or stores the chunk, and sends it on. At the
 * last hop, the chip only receives a chunk. A chunk that is larger than a frame is cut into pieces.
 * A piece goes through the whole ring before the next piece starts. So no chip runs far ahead of
 * the others, and queues of two frames are enough to prevent a deadlock.
 */
export function planAllReduce(of: AllReduceOf): LanePlan {
  const hops = phasesOf(of).flatMap((phase) => hopsOf(of, phase));
  return lanePlan(hops, [of.address]);
}

function phasesOf(of: AllReduceOf): readonly Phase[] {
  const { elements, lane } = of;
  const [first, second] = [ringOf(of, 0), ringOf(of, 1)];
  const whole = { start: partStart(elements, laneCount, lane), length: lengthOf(of) };
  const own = {
    start: whole.start + partStart(whole.length, first.length, first.position),
    length: partLength(whole.length, first.length, first.position),
  };
  const onFirst = { axis: 0, ring: first, range: whole, firstHop: 0 } as const;
  const onSecond = { name: 'all-reduce', axis: 1, ring: second, range: own } as const;
  return [
    { name: 'reduce-scatter', ...onFirst, gathers: false },
    { ...onSecond, gathers: false, firstHop: 0 },
    { ...onSecond, gathers: true, firstHop: second.length },
    { name: 'all-gather', ...onFirst, gathers: true },
  ];
}

function lengthOf({ elements, lane }: AllReduceOf): number {
  return partLength(elements, laneCount, lane);
}

function ringOf({ torus, chip, lane }: LaneOfChip, laneAxis: LaneAxis): Ring {
  const direction = laneDirection(lane, laneAxis);
  const axis = axisOf(direction);
  return { direction, length: axisLength(torus, axis), position: position(torus, chip, axis) };
}

/** Returns the hops of a phase, without those that have no elements. */
function hopsOf(of: AllReduceOf, phase: Phase): Hop[] {
  const { range, ring } = phase;
  if (ring.length === 1) return [];
  const longest = longestPart(range.length, ring.length);
  const pieces = Math.max(1, Math.ceil(longest / of.frameElements));
  const pieceElements = longestPart(longest, pieces);
  const hops: Hop[] = [];
  for (let piece = 0; piece < pieces; piece++) {
    for (let hop = 0; hop < ring.length; hop++) {
      const chunk = chunkAt(ring.direction, ring.length, ring.position, hop, phase.gathers);
      const start = partStart(range.length, ring.length, chunk) + piece * pieceElements;
      const end = partStart(range.length, ring.length, chunk + 1);
      const elements = Math.min(pieceElements, end - start);
      if (elements <= 0) continue;
      const place = { region: 0, offset: (range.start + start) * 4 };
      hops.push({ ...kindOf(of, phase, hop), place, elements });
    }
  }
  return hops;
}

/** Returns what a hop does, besides its elements. */
function kindOf(
  { keepsSum }: AllReduceOf,
  { name, axis, ring, gathers, firstHop }: Phase,
  hop: number,
): Omit<Hop, 'place' | 'elements'> {
  const sends = hop < ring.length - 1;
  const common = { phase: name, index: firstHop + hop, sends: sends ? [axis] : [] };
  if (hop === 0) return { ...common, action: 'none' };
  // The sum is stored if the chip sends it on, if a later phase needs it, or if it must keep it.
  const stores = axis === 1 || sends || keepsSum;
  const action = gathers ? (stores ? 'store' : 'none') : 'add';
  return { ...common, receives: axis, action };
}
