import { assert, at } from '../numerics/assert.ts';
import { PodError } from '../numerics/error.ts';
import type { Doorbell } from './doorbell.ts';
import type { SumKernels } from './kernels/sum.ts';
import type { LaneBlock, OnHop, Turn } from './lane.ts';
import { Lane } from './lane.ts';
import type { Links } from './link.ts';
import { frameElementsMax, laneCount, laneDirection } from './part.ts';
import type { LanePlan } from './plan.ts';
import { type LaneOfChip, planAllReduce } from './plan-all-reduce.ts';
import { type ExchangePlace, type ExchangePlans, exchangeLane } from './plan-exchange.ts';
import type { Direction, Torus } from './torus.ts';
import {
  axisLength,
  axisOf,
  chipName,
  chipsOf,
  linkInto,
  linkName,
  linkNumber,
  neighbour,
  placement,
} from './torus.ts';
import { LinkWaits } from './waits.ts';

/**
 * Place of one bucket in the memory of one worker. A bucket is a group of gradients that one
 * all-reduce sums. For each bucket, each chip of the worker has one vector of f32 numbers.
 */
export interface BucketPlace {
  /** Byte address of the vector of the worker's chip 0. */
  readonly address: number;
  /** Bytes from the start of one chip's vector to the start of the next chip's vector. */
  readonly stride: number;
  readonly elements: number;
}

/** An exchange of rows between replicas, and its place in the memory of one worker. */
export interface ExchangeInMemory {
  readonly plans: ExchangePlans;
  readonly place: ExchangePlace;
  /** Number of replicas of a chip. */
  readonly replicasAChip: number;
}

/** A collective that a worker can start, and its place in the memory of the worker. */
export type CollectivePlace = BucketPlace | ExchangeInMemory;

export interface CollectivesParts {
  readonly torus: Torus;
  readonly worker: number;
  /**
   * Number of the current generation. In one generation, the same workers form the slice. A new
   * generation begins when a Cloud TPU is lost. A frame of another generation is refused (PodError
   * `bad-frame`).
   */
  readonly generation: number;
  readonly kernels: SumKernels;
  readonly links: Links;
  readonly doorbell: Doorbell;
  readonly collectives: readonly CollectivePlace[];
  /** Largest number of elements of a frame; by default `frameElementsMax`. */
  readonly frameElements?: number;
  /**
   * Called before each hop of each lane. Set only if a fault plan has faults for this Cloud TPU.
   */
  readonly onHop?: OnHop;
  /** Returns the time in ms from an arbitrary origin. */
  readonly now: () => number;
  /**
   * If set, the time between two calls of `progress` counts as a wait for frames, up to this many
   * ms. Set it only for a thread that does nothing but call `progress`. While an all-reduce is
   * under way, this thread calls `progress` at shorter intervals than `idleMsMax`. So a longer
   * interval means that the thread was stopped or had no processor, and the excess does not count
   * as a wait. If undefined, the worker computes between two calls. Then only the time that it
   * sleeps in `finish` counts as a wait.
   */
  readonly idleMsMax?: number;
}

/**
 * One worker's part of the collectives of a slice. All workers must start the same collectives in
 * the same order. No memory is allocated while a collective runs. There are two kinds:
 *
 * - An all-reduce sums one bucket of gradients. For each bucket, each chip has one vector. When a
 *   bucket starts, the vector of each chip holds that chip's summand. When the bucket is done, the
 *   vector of the worker's chip 0 holds the sum over all chips of the slice. The contents of the
 *   worker's other vectors are then undefined. The order of the additions decides every bit of the
 *   sum; it is defined in docs/ARCHITECTURE.md, "Order of sums".
 * - An exchange moves rows between replicas, and changes no bit of them.
 */
export class Collectives {
  readonly #torus: Torus;
  readonly #worker: number;
  readonly #collectives: readonly CollectivePlace[];
  readonly #doorbell: Doorbell;
  readonly #now: () => number;
  readonly #lanes: readonly Lane[];
  readonly #waits: LinkWaits;
  readonly #idleMsMax: number | undefined;
  /** One element: the time at which `progress` last returned, if `#idleMsMax` is set. */
  readonly #lastMs = new Float64Array(1);
  /**
   * For each collective: the serial number of its newest start; 0 before its first. The serial
   * numbers count the collectives that this worker has started, from 1 on.
   */
  readonly #startOf: Uint32Array;
  #started = 0;
  #finished = 0;

  constructor(parts: CollectivesParts) {
    const { torus, worker, collectives, doorbell, now } = parts;
    this.#torus = torus;
    this.#worker = worker;
    this.#collectives = collectives;
    this.#doorbell = doorbell;
    this.#now = now;
    this.#startOf = new Uint32Array(collectives.length);
    const waits = new LinkWaits(torus, worker);
    this.#waits = waits;
    this.#idleMsMax = parts.idleMsMax;
    this.#lanes = chipsOf(torus, worker).flatMap((chip) =>
      Array.from({ length: laneCount }, (_, lane) => makeLane(parts, waits, chip, lane)),
    );
  }

  /**
   * Starts the collective with the given number. Each lane handles the started collectives one after
   * another, in the order of their starts.
   */
  start(collective: number): void {
    const known = this.#startOf.length;
    assert(this.#startOf[collective] !== undefined, `collective ${collective} of ${known}`);
    assert(this.isDone(collective), `collective ${collective} started before it was done`);
    this.#started++;
    this.#startOf[collective] = this.#started;
    for (const lane of this.#lanes) lane.start(collective);
    this.#doorbell.publishStarted(this.#started);
  }

  /**
   * Makes every hop that is possible without waiting. A hop receives a frame, sends a frame, or
   * does both. Returns true if at least one hop was made or one collective finished.
   */
  progress(): boolean {
    if (this.#idleMsMax !== undefined) this.#countIdle(this.#idleMsMax);
    let moved = false;
    while (this.#pass()) moved = true;
    if (this.#idleMsMax !== undefined) this.#lastMs[0] = this.#now();
    return moved;
  }

  /**
   * True if the collective has made all its hops, and the receivers have released all frames that
   * this worker sent for it.
   */
  isDone(collective: number): boolean {
    return (this.#startOf[collective] ?? 0) <= this.#countFinished();
  }

  /** True if a collective has started that is not done. */
  get isBusy(): boolean {
    return this.#countFinished() < this.#started;
  }

  /**
   * Makes hops until the collective is done, and sleeps while no hop is possible. Throws PodError
   * `link-timeout` when the time `deadline` (in ms on the clock `now`) has passed, or when the
   * master ends all waits. In the first case, the message names the links that the collective waits
   * for.
   */
  finish(collective: number, deadline: number): void {
    this.progress();
    if (this.isDone(collective)) return;
    this.#doorbell.publishWaiting(true);
    while (!this.isDone(collective)) this.#await(collective, deadline);
    this.#doorbell.publishWaiting(false);
  }

  #await(collective: number, deadline: number): void {
    this.#doorbell.prepare();
    if (this.progress()) {
      this.#doorbell.stayAwake();
      return;
    }
    this.#doorbell.check();
    const sinceMs = this.#now();
    const left = deadline - sinceMs;
    if (left <= 0) throw this.timeout(collective);
    this.#doorbell.sleep(left);
    this.#waits.advance(this.#now() - sinceMs);
  }

  /** Counts the time since the last call of `progress` as a wait, at most `idleMsMax` of it. */
  #countIdle(idleMsMax: number): void {
    this.#waits.advance(Math.min(this.#now() - this.#lastMs[0]!, idleMsMax));
  }

  /**
   * Returns how long the lanes waited for frames since the last call, in ms. There is one entry for
   * each link that comes from another worker, in the order of `enteringLinks`. Call this method
   * only while no collective is under way.
   */
  takeWaits(): number[] {
    return this.#waits.take();
  }

  /**
   * Runs all lanes once. A lane is a quarter of the vector of one chip. Returns true if a lane made
   * progress.
   */
  #pass(): boolean {
    let moved = false;
    for (let i = 0; i < this.#lanes.length; i++) {
      if (this.#lanes[i]?.run()) moved = true;
    }
    if (moved) {
      this.#doorbell.ring();
      const finished = this.#countFinished();
      if (finished !== this.#finished) this.#doorbell.publishFinished(finished);
      this.#finished = finished;
    }
    return moved;
  }

  #countFinished(): number {
    let finished = this.#started;
    for (let i = 0; i < this.#lanes.length; i++) {
      const count = this.#lanes[i]?.finished ?? 0;
      if (count < finished) finished = count;
    }
    return finished;
  }

  /**
   * Returns the error `link-timeout` for a collective that is late. Its message names the Cloud TPUs
   * and the links that the collective waits for.
   */
  timeout(collective: number): PodError {
    const serial = (this.#startOf[collective] ?? 0) - 1;
    const blocks = this.#lanes.flatMap((lane) => lane.blocked());
    const far = new Set(blocks.map((block) => farWorker(this.#torus, block)));
    const silent = this.#doorbell.silent(serial, [...far]);
    const who = silent.map((worker) => `Cloud TPU ${worker}`).join(', ') || 'unknown';
    const links = [...new Set(blocks.map((block) => describeBlock(this.#torus, block)))];
    const shown =
      links.slice(0, 4).join('; ') + (links.length > 4 ? `; ${links.length - 4} more` : '');
    const place = at(this.#collectives, collective);
    const what =
      'elements' in place
        ? `all-reduce of bucket ${collective} (${place.elements} elements)`
        : `exchange ${collective}`;
    return new PodError(
      'link-timeout',
      `Cloud TPU ${this.#worker}: ${what} timed out; silent: ${who}; waits for ${shown}`,
    );
  }
}

function describeBlock(torus: Torus, block: LaneBlock): string {
  const { link, wants } = block;
  const chip = chipName(torus, farChip(torus, block));
  const what = wants === 'frame' ? 'a frame' : 'release';
  return `${what} on link ${linkName(torus, link)} (${chip} of Cloud TPU ${farWorker(torus, block)})`;
}

/**
 * Returns the chip that a lane waits for. If the lane waits for a frame, this is the chip that
 * sends the frame. If the lane waits for the release of a frame that it has sent, this is the chip
 * that received the frame.
 */
function farChip(torus: Torus, { link, wants }: LaneBlock): number {
  const from = link >> 2;
  return wants === 'frame' ? from : neighbour(torus, from, (link & 3) as Direction);
}

function farWorker(torus: Torus, block: LaneBlock): number {
  return placement(torus, farChip(torus, block)).worker;
}

function makeLane(parts: CollectivesParts, waits: LinkWaits, chip: number, lane: number): Lane {
  const { torus, generation, kernels, collectives, onHop } = parts;
  return new Lane({
    torus,
    chip,
    lane,
    generation,
    kernels,
    waits,
    plans: collectives.map((place) => planOf(parts, place, { torus, chip, lane })),
    turns: [turnEnds(parts, chip, lane, 0), turnEnds(parts, chip, lane, 1)],
    ...(onHop && { onHop }),
  });
}

function planOf(
  { frameElements = frameElementsMax }: CollectivesParts,
  place: CollectivePlace,
  of: LaneOfChip,
): LanePlan {
  const { index } = placement(of.torus, of.chip);
  if ('plans' in place) {
    return exchangeLane(place.plans, { ...of, index }, place.place, place.replicasAChip);
  }
  const { address, stride, elements } = place;
  // The sum is read only from the vector of the worker's chip 0, so the other vectors need not hold
  // it.
  const keepsSum = index === 0;
  return planAllReduce({
    ...{ ...of, frameElements, keepsSum, elements },
    address: address + index * stride,
  });
}

function turnEnds(
  { torus, links }: CollectivesParts,
  chip: number,
  lane: number,
  turn: 0 | 1,
): Turn | undefined {
  const direction = laneDirection(lane, turn);
  if (axisLength(torus, axisOf(direction)) === 1) return undefined;
  const colour = lane >> 1;
  const outNumber = linkNumber(chip, direction);
  const inNumber = linkInto(torus, chip, direction);
  return { out: links.out(outNumber, colour), in: links.in(inNumber, colour), outNumber, inNumber };
}
