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

/** An axis of a lane: 0 is the axis along which the lane sums first, 1 is its second axis. */
export type LaneAxis = 0 | 1;

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
  /** Byte address of the elements of the hop in the memory of the chip. */
  readonly address: number;
  /** Number of elements, which are words of four bytes. */
  readonly elements: number;
  /** Byte address from which the action `copy` copies. */
  readonly from?: number;
  /**
   * How many frames of the collective must have been released on each axis before the hop may
   * overwrite its elements, because these frames are ranges of the same memory.
   */
  readonly released?: readonly [number, number];
}

/** Fields of a hop in a {@link LanePlan}: offsets in words of 32 bits. */
const words = {
  phase: 0,
  index: 1,
  receives: 2,
  sends: 3,
  action: 4,
  address: 5,
  elements: 6,
  from: 7,
  released: 8,
} as const;
const wordsAHop = 10;
const nowhere = 2;

/**
 * The hops that one lane of one chip makes for a collective, in order. The order is such that the
 * chips of a slice, each with its own plan, never wait for each other in a circle, although a link
 * holds only a few frames. Hops are stored as words, so that reading one allocates no memory.
 */
export class LanePlan {
  /** Number of hops. */
  readonly length: number;
  readonly #words: Int32Array;

  constructor(hops: readonly Hop[]) {
    this.length = hops.length;
    this.#words = new Int32Array(hops.length * wordsAHop);
    for (const [i, hop] of hops.entries()) this.#write(i * wordsAHop, hop);
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

  address(hop: number): number {
    return this.#word(hop, words.address) >>> 0;
  }

  elements(hop: number): number {
    return this.#word(hop, words.elements);
  }

  from(hop: number): number {
    return this.#word(hop, words.from) >>> 0;
  }

  /** How many frames must have been released on an axis before the hop; see {@link Hop.released}. */
  released(hop: number, axis: LaneAxis): number {
    return this.#word(hop, words.released + axis);
  }

  #word(hop: number, field: number): number {
    return this.#words[hop * wordsAHop + field]!;
  }

  #write(base: number, hop: Hop): void {
    const to = this.#words;
    to[base + words.phase] = phaseNames.indexOf(hop.phase);
    to[base + words.index] = hop.index;
    to[base + words.receives] = hop.receives ?? nowhere;
    to[base + words.sends] = hop.sends.reduce<number>((mask, axis) => mask | (1 << axis), 0);
    to[base + words.action] = actions.indexOf(hop.action);
    to[base + words.address] = hop.address;
    to[base + words.elements] = hop.elements;
    to[base + words.from] = hop.from ?? 0;
    const [first, second] = hop.released ?? [0, 0];
    to[base + words.released] = first;
    to[base + words.released + 1] = second;
  }
}
