import { at } from '../numerics/assert.ts';

/**
 * Name of a phase of a collective, in fault plans. A lane makes an all-reduce in four phases. The two
 * on the lane's second axis share the name `all-reduce`. A collective that sums nothing has one
 * phase, `all-gather`.
 */
export type CollectivePhase = 'reduce-scatter' | 'all-reduce' | 'all-gather';

const phaseNames: readonly CollectivePhase[] = ['reduce-scatter', 'all-reduce', 'all-gather'];

/**
 * What a hop does with the payload that the chip receives, or with its own memory:
 *
 * - `none`: nothing.
 * - `add`: adds the payload, as f32 numbers, to the elements of the hop.
 * - `store`: copies the payload over the elements of the hop.
 * - `copy`: receives nothing, and copies elements from `from` over the elements of the hop.
 */
export type HopAction = 'none' | 'add' | 'store' | 'copy';

const actions: readonly HopAction[] = ['none', 'add', 'store', 'copy'];

/** An axis of a lane: 0 is the axis along which the lane goes first, 1 is its second axis. */
export type LaneAxis = 0 | 1;

/**
 * A place in the memory of a chip: `offset` bytes from the start of one of the regions that a
 * {@link LanePlan} has.
 */
export interface PlaceInRegion {
  readonly region: number;
  readonly offset: number;
}

/**
 * One hop of a lane on one chip. A hop receives a frame, then handles its payload, then sends the
 * elements of the hop; each of these may be missing.
 */
export interface Hop {
  readonly phase: CollectivePhase;
  /** Number of the hop in its phase, from 0. The pieces of a chunk make hops of equal numbers. */
  readonly index: number;
  /** The axis from which a frame is received; undefined if none is. */
  readonly receives?: LaneAxis;
  /** The axes on which the elements of the hop are sent. */
  readonly sends: readonly LaneAxis[];
  readonly action: HopAction;
  /** Place of the elements of the hop. */
  readonly place: PlaceInRegion;
  /** Number of elements, which are words of four bytes. */
  readonly elements: number;
  /** Place from which the action `copy` copies. */
  readonly from?: PlaceInRegion;
  /**
   * How many frames of the collective must have been released on each axis before the hop may
   * overwrite its elements, because these frames are ranges of the same memory.
   */
  readonly released?: readonly [number, number];
}

/** Fields of a hop in memory: offsets in words of 32 bits. */
const words = {
  phase: 0,
  index: 1,
  receives: 2,
  sends: 3,
  action: 4,
  region: 5,
  offset: 6,
  elements: 7,
  fromRegion: 8,
  fromOffset: 9,
  released: 10,
} as const;
/** Number of words of a hop in memory. */
export const wordsAHop = 12;
const nowhere = 2;

/** Writes hops to memory, one after another. `to` has {@link wordsAHop} words for each hop. */
export function writeHops(hops: readonly Hop[], to: Int32Array): void {
  for (const [i, hop] of hops.entries()) {
    const base = i * wordsAHop;
    const [first, second] = hop.released ?? [0, 0];
    to[base + words.phase] = phaseNames.indexOf(hop.phase);
    to[base + words.index] = hop.index;
    to[base + words.receives] = hop.receives ?? nowhere;
    to[base + words.sends] = hop.sends.reduce<number>((mask, axis) => mask | (1 << axis), 0);
    to[base + words.action] = actions.indexOf(hop.action);
    to[base + words.region] = hop.place.region;
    to[base + words.offset] = hop.place.offset;
    to[base + words.elements] = hop.elements;
    to[base + words.fromRegion] = hop.from?.region ?? 0;
    to[base + words.fromOffset] = hop.from?.offset ?? 0;
    to[base + words.released] = first;
    to[base + words.released + 1] = second;
  }
}

/**
 * The hops that one lane of one chip makes for a collective, in order. The order is such that the
 * chips of a slice, each with its own plan, never wait for each other in a circle, although a link
 * holds only a few frames. Hops are words in memory, so that reading one allocates no memory.
 */
export class LanePlan {
  /** Number of hops. */
  readonly length: number;
  readonly #words: Int32Array;
  readonly #regions: readonly number[];

  /** `hops` is what {@link writeHops} writes; `regions` has the byte address of each region. */
  constructor(hops: Int32Array, regions: readonly number[]) {
    this.length = hops.length / wordsAHop;
    this.#words = hops;
    this.#regions = regions;
  }

  phase(hop: number): CollectivePhase {
    return at(phaseNames, this.#word(hop, words.phase));
  }

  index(hop: number): number {
    return this.#word(hop, words.index);
  }

  /** Returns the axis from which the hop receives a frame; undefined if it receives none. */
  receives(hop: number): LaneAxis | undefined {
    const axis = this.#word(hop, words.receives);
    return axis === nowhere ? undefined : (axis as LaneAxis);
  }

  /** True if the hop sends its elements on the given axis. */
  sends(hop: number, axis: LaneAxis): boolean {
    return (this.#word(hop, words.sends) & (1 << axis)) !== 0;
  }

  action(hop: number): HopAction {
    return actions[this.#word(hop, words.action)]!;
  }

  /** Byte address of the elements of the hop. */
  address(hop: number): number {
    return this.#regions[this.#word(hop, words.region)]! + this.#word(hop, words.offset);
  }

  elements(hop: number): number {
    return this.#word(hop, words.elements);
  }

  /** Byte address from which the action `copy` of the hop copies. */
  from(hop: number): number {
    return this.#regions[this.#word(hop, words.fromRegion)]! + this.#word(hop, words.fromOffset);
  }

  /** How many frames must have been released on an axis before the hop; see {@link Hop.released}. */
  released(hop: number, axis: LaneAxis): number {
    return this.#word(hop, words.released + axis);
  }

  #word(hop: number, field: number): number {
    return this.#words[hop * wordsAHop + field]!;
  }
}

/** Returns the plan of one collective, with its hops in memory of its own. */
export function lanePlan(hops: readonly Hop[], regions: readonly number[]): LanePlan {
  const memory = new Int32Array(hops.length * wordsAHop);
  writeHops(hops, memory);
  return new LanePlan(memory, regions);
}
