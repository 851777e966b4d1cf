import { assert, at } from '../numerics/assert.ts';
import { PodError } from '../numerics/error.ts';
import { cachedBytes, type FrameCrc } from './kernels/crc.ts';
import type { SumKernels } from './kernels/sum.ts';
import type { Frame, InLink, OutLink } from './link.ts';
import { emptyFrame, unknownCrc } from './link.ts';
import { laneDirection } from './part.ts';
import { type CollectivePhase, type LaneAxis, type LanePlan, lanePlan } from './plan.ts';
import type { Torus } from './torus.ts';
import { linkName, placement } from './torus.ts';
import type { LinkWaits } from './waits.ts';

/**
 * Number of elements that are summed before the CRC is updated with their sums. The sums are then
 * still in the processor's cache.
 */
const cachedElements = cachedBytes / 4;

/**
 * The two links through which a chip handles a lane on one axis of the torus. A lane is a quarter
 * of each vector. The chip sends into the link with the number `outNumber`, at the link end `out`.
 * It receives from the link with the number `inNumber`, at the link end `in`.
 */
export interface Turn {
  readonly out: OutLink;
  readonly in: InLink;
  readonly outNumber: number;
  readonly inNumber: number;
}

/** Constructor arguments of a {@link Lane}. */
export interface LaneParts {
  readonly torus: Torus;
  readonly chip: number;
  readonly lane: number;
  readonly generation: number;
  readonly kernels: SumKernels;
  /** The hops that the lane makes for each collective, indexed by the number of the collective. */
  readonly plans: readonly LanePlan[];
  /**
   * The chip's links for the lane on the lane's first axis, then on its second axis. An axis of one
   * chip has no links; its entry is undefined.
   */
  readonly turns: readonly [Turn | undefined, Turn | undefined];
  /** Receives the times for which the lane waits for frames. */
  readonly waits: LinkWaits;
  /** Called before each hop. Set only if a fault plan has faults for this Cloud TPU. */
  readonly onHop?: OnHop;
}

/**
 * Called before a hop with three values: the number of the collective, the name of the phase, and
 * the index of the hop in that phase, from 0. In an all-reduce the name `all-reduce` stands for two
 * phases on the second axis. On a ring of n chips, the hops of the reduce-scatter there have the
 * indices 0 to n − 1, and those of the all-gather n to 2n − 1. A chunk that is larger than a frame is
 * cut into pieces, and each piece makes all hops of the phase.
 */
export type OnHop = (collective: number, phase: CollectivePhase, hop: number) => void;

/**
 * What a lane waits for: the next frame from the link with the number `link`, or the release of
 * frames that were sent on this link.
 */
export interface LaneBlock {
  readonly link: number;
  readonly wants: 'frame' | 'release';
}

/**
 * State machine of one chip for one lane, a quarter of each vector. The lane makes the hops of each
 * started collective in the order of its plan ({@link LanePlan}), and the collectives in the order
 * of their starts. So the sequence of its hops is fixed. {@link run} makes as many hops as the links
 * allow.
 *
 * A frame is a range of memory of the chip that sends it. So the elements of this range must not
 * change until the receiver has read them. The plans keep this rule. In the reduce-scatter of an
 * all-reduce, for example, only the complete sum overwrites an element that was sent. The sum is
 * complete only after all receivers have read the element. A collective has finished when all its
 * frames are released.
 */
export class Lane {
  readonly #parts: LaneParts;
  readonly #waits: LinkWaits;
  /** Index of the chip among the chips of its worker. */
  readonly #index: number;
  /** Numbers of the started collectives: a circular buffer of `#queue.length` entries. */
  readonly #queue: Uint32Array;
  #started = 0;
  /** How many collectives have made all their hops. */
  #hopsDone = 0;
  /** How many collectives have finished: all their hops are made and all their frames are released. */
  #finished = 0;

  /** Plan of the current collective. */
  #plan: LanePlan;
  /** Index in the plan of the hop that is made next. */
  #hop = 0;
  /** How many frames were sent for the current collective: one count for each axis of the lane. */
  readonly #sent = new Uint32Array(2);
  /** How many frames were received for the current collective: one count for each axis. */
  readonly #received = new Uint32Array(2);
  /** How many frames were sent since the lane was made: one count for each axis of the lane. */
  readonly #sentEver = new Int32Array(2);
  /**
   * For each collective in `#queue`: the two counts of `#sentEver`, one for each axis, after the
   * last hop of the collective. When the receivers have released that many frames on both axes, the
   * collective has finished.
   */
  readonly #sentWhenHopsDone: Int32Array;
  readonly #inFrame: Frame = emptyFrame();
  readonly #outFrame: Frame = emptyFrame();
  readonly #expected: Frame = emptyFrame();
  #wants: 'frame' | 'release' = 'frame';
  /** The axis whose links the lane waits for. */
  #axis: LaneAxis = 0;
  /**
   * The link whose next frame the lane waits for; undefined if the lane does not wait for a frame.
   */
  #awaited: InLink | undefined;

  constructor(parts: LaneParts) {
    const { plans } = parts;
    this.#parts = parts;
    this.#waits = parts.waits;
    this.#index = placement(parts.torus, parts.chip).index;
    this.#queue = new Uint32Array(plans.length);
    this.#sentWhenHopsDone = new Int32Array(2 * plans.length);
    this.#plan = lanePlan([], []);
    this.#outFrame.generation = parts.generation;
    this.#expected.generation = parts.generation;
  }

  /** How many collectives have finished: all their hops are made and all their frames are released. */
  get finished(): number {
    return this.#finished;
  }

  /** Puts a collective at the end of the lane's queue. */
  start(collective: number): void {
    const length = this.#queue.length;
    assert(this.#started - this.#finished < length, `lane ${this.#parts.lane}: a full queue`);
    this.#queue[this.#started % length] = collective;
    this.#started++;
    if (this.#started > this.#hopsDone + 1) return;
    this.#enter();
    this.#skipDone();
    this.#collect();
  }

  /**
   * Makes every hop that is possible now. Returns true if a hop was made or a collective finished.
   */
  run(): boolean {
    if (this.#finished === this.#hopsDone && this.#awaited?.isEmpty()) return false;
    const finishedBefore = this.#finished;
    let moved = false;
    while (this.#hopsDone < this.#started && this.#tryHop()) moved = true;
    this.#collect();
    return moved || this.#finished !== finishedBefore;
  }

  /**
   * Returns the events that the lane waits for. The list is empty if all started collectives have
   * finished.
   */
  blocked(): readonly LaneBlock[] {
    if (this.#hopsDone < this.#started) {
      const turn = this.#parts.turns[this.#axis];
      if (turn === undefined) return [];
      const link = this.#wants === 'frame' ? turn.inNumber : turn.outNumber;
      return [{ link, wants: this.#wants }];
    }
    return this.#parts.turns.flatMap((turn, axis) =>
      turn === undefined || turn.out.isReleased(this.#sentEver[axis] ?? 0)
        ? []
        : [{ link: turn.outNumber, wants: 'release' as const }],
    );
  }

  /**
   * Makes the current hop and moves on to the next one. Returns false if the hop must wait for a
   * frame or for room in a queue.
   */
  #tryHop(): boolean {
    const plan = this.#plan;
    const hop = this.#hop;
    const from = plan.receives(hop);
    if (from !== undefined && !this.#turn(from).in.peek(this.#inFrame)) return this.#expect(from);
    if (this.#awaited !== undefined) this.#endWait();
    if (!this.#isClear(0) || !this.#isClear(1)) return false;
    if (this.#parts.onHop !== undefined) this.#report(this.#parts.onHop);
    if (from !== undefined) this.#receive(from);
    else if (plan.action(hop) === 'copy') {
      this.#parts.kernels.copy(plan.address(hop), plan.from(hop), plan.elements(hop));
    }
    const crc = from === undefined ? unknownCrc : this.#inFrame.crc;
    if (plan.sends(hop, 0)) this.#send(0, crc);
    if (plan.sends(hop, 1)) this.#send(1, crc);
    this.#hop++;
    this.#skipDone();
    return true;
  }

  /**
   * True if the next chip on an axis has room for the frame that the current hop sends, and has
   * released the frames whose memory the hop overwrites. If not, the lane waits for a release.
   */
  #isClear(axis: LaneAxis): boolean {
    const { out } = this.#parts.turns[axis] ?? { out: undefined };
    if (out === undefined) return true;
    const hop = this.#hop;
    const released = this.#plan.released(hop, axis);
    const before = this.#sentEver[axis]! - this.#sent[axis]!;
    const hasRoom = !this.#plan.sends(hop, axis) || out.hasRoom();
    if (hasRoom && (released === 0 || out.isReleased(before + released))) return true;
    this.#wants = 'release';
    this.#axis = axis;
    return false;
  }

  #report(onHop: OnHop): void {
    const collective = at(this.#queue, this.#hopsDone % this.#queue.length);
    onHop(collective, this.#plan.phase(this.#hop), this.#plan.index(this.#hop));
  }

  /**
   * Records that the lane waits for the next frame on an axis. If the payload of that frame must
   * replace elements of the chip's memory, tells the link their address. A link that copies payloads
   * can then copy this payload directly to that address.
   */
  #expect(axis: LaneAxis): false {
    const turn = this.#turn(axis);
    const hop = this.#hop;
    if (
      this.#plan.action(hop) === 'store' &&
      this.#plan.released(hop, 0) + this.#plan.released(hop, 1) === 0
    ) {
      const frame = this.#expected;
      frame.address = this.#plan.address(hop);
      frame.bytes = this.#plan.elements(hop) * 4;
      frame.collective = this.#hopsDone;
      frame.sequence = this.#received[axis] ?? 0;
      turn.in.expect(frame);
    }
    if (this.#awaited === undefined) this.#waits.begin(this.#index, this.#parts.lane);
    this.#awaited = turn.in;
    this.#axis = axis;
    this.#wants = 'frame';
    return false;
  }

  /** Called when the frame that the lane waited for has arrived. */
  #endWait(): void {
    this.#awaited = undefined;
    const { lane } = this.#parts;
    this.#waits.end(this.#index, lane, laneDirection(lane, this.#axis));
  }

  /**
   * Handles the received frame as the action of the current hop says, and releases it. Throws
   * PodError `bad-frame` if this is not the expected frame.
   */
  #receive(axis: LaneAxis): void {
    const plan = this.#plan;
    const hop = this.#hop;
    const frame = this.#inFrame;
    this.#check(frame, axis);
    const action = plan.action(hop);
    if (action === 'add') {
      const next = plan.sends(hop, axis) ? this.#turn(axis).out.crc : undefined;
      frame.crc = this.#add(frame.address, next);
    } else if (action === 'store' && frame.address !== plan.address(hop)) {
      this.#parts.kernels.copy(plan.address(hop), frame.address, plan.elements(hop));
    }
    this.#turn(axis).in.release();
  }

  /**
   * Adds a payload to the elements of the current hop. If `crc` is given, returns the CRC-32 of the
   * sums; otherwise returns {@link unknownCrc}.
   */
  #add(payload: number, crc: FrameCrc | undefined): number {
    const { kernels } = this.#parts;
    const own = this.#plan.address(this.#hop);
    const count = this.#plan.elements(this.#hop);
    if (crc === undefined) {
      kernels.add(own, payload, own, count);
      return unknownCrc;
    }
    crc.begin(own, count * 4);
    for (let i = 0; i < count; i += cachedElements) {
      const some = Math.min(cachedElements, count - i);
      kernels.add(own + i * 4, payload + i * 4, own + i * 4, some);
      crc.take((i + some) * 4);
    }
    return crc.end();
  }

  /**
   * Sends the elements of the current hop on an axis. `crc` is the CRC-32 of these elements, or
   * {@link unknownCrc}.
   */
  #send(axis: LaneAxis, crc: number): void {
    const frame = this.#outFrame;
    frame.address = this.#plan.address(this.#hop);
    frame.bytes = this.#plan.elements(this.#hop) * 4;
    frame.collective = this.#hopsDone;
    frame.sequence = this.#sent[axis] ?? 0;
    frame.crc = crc;
    this.#turn(axis).out.send(frame);
    this.#sent[axis] = frame.sequence + 1;
    this.#sentEver[axis] = (this.#sentEver[axis] ?? 0) + 1;
  }

  #turn(axis: LaneAxis): Turn {
    const turn = this.#parts.turns[axis];
    assert(turn !== undefined, 'a hop along an axis of several chips');
    return turn;
  }

  /** Throws `bad-frame` unless the received frame is the expected next one on the axis. */
  #check(frame: Readonly<Frame>, axis: LaneAxis): void {
    const sequence = this.#received[axis] ?? 0;
    if (
      frame.generation !== this.#parts.generation ||
      frame.collective !== this.#hopsDone ||
      frame.sequence !== sequence ||
      frame.bytes !== this.#plan.elements(this.#hop) * 4
    ) {
      throw this.#badFrame(frame, axis);
    }
    this.#received[axis] = sequence + 1;
  }

  #badFrame(frame: Readonly<Frame>, axis: LaneAxis): PodError {
    const { generation, torus } = this.#parts;
    const link = linkName(torus, this.#turn(axis).inNumber);
    const bytes = this.#plan.elements(this.#hop) * 4;
    const sequence = this.#received[axis] ?? 0;
    const expected = { generation, collective: this.#hopsDone, sequence, bytes };
    const { address: _, crc: __, ...found } = frame;
    return new PodError(
      'bad-frame',
      `link ${link}: expected frame ${JSON.stringify(expected)}, found ${JSON.stringify(found)}`,
    );
  }

  /**
   * Counts the collectives that have finished: all their hops are made and all their frames are
   * released.
   */
  #collect(): void {
    while (this.#finished < this.#hopsDone && this.#isReleased(0) && this.#isReleased(1)) {
      this.#finished++;
    }
  }

  /**
   * True if, on the given axis of the lane, the receiver has released all frames of the oldest
   * unfinished collective.
   */
  #isReleased(axis: LaneAxis): boolean {
    const out = this.#parts.turns[axis]?.out;
    const slot = this.#finished % this.#queue.length;
    return out === undefined || out.isReleased(this.#sentWhenHopsDone[2 * slot + axis] ?? 0);
  }

  /** Leaves each collective that has made all its hops, and enters the next started one. */
  #skipDone(): void {
    while (this.#hopsDone < this.#started && this.#hop === this.#plan.length) {
      this.#sentWhenHopsDone.set(this.#sentEver, 2 * (this.#hopsDone % this.#queue.length));
      this.#hopsDone++;
      if (this.#hopsDone < this.#started) this.#enter();
    }
  }

  /** Takes the plan of the oldest collective that has not made all its hops. */
  #enter(): void {
    this.#plan = at(this.#parts.plans, at(this.#queue, this.#hopsDone % this.#queue.length));
    this.#hop = 0;
    this.#sent.fill(0);
    this.#received.fill(0);
  }
}
