import { assert, at } from '../numerics/assert.ts';
import { PodError } from '../numerics/error.ts';
import { cachedBytes, type FrameCrc } from './kernels/crc.ts';
import type { SumKernels } from './kernels/sum.ts';
import type { Frame, InLink, OutLink } from './link.ts';
import { emptyFrame, unknownCrc } from './link.ts';
import { chunkAt, laneCount, laneDirection, longestPart, partLength, partStart } from './part.ts';
import type { Direction, Torus } from './torus.ts';
import { axisLength, axisOf, linkName, placement, position } from './torus.ts';
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

export interface LaneParts {
  readonly torus: Torus;
  readonly chip: number;
  readonly lane: number;
  readonly generation: number;
  /** Largest number of elements of a frame. */
  readonly frameElements: number;
  readonly kernels: SumKernels;
  /**
   * True if this chip's vector must hold the sum when the all-reduce is done. If false, the chip
   * still sends every frame that the next chip needs.
   */
  readonly keepsSum: boolean;
  /** One entry for each bucket: the chip's own vector. `address` is a byte address. */
  readonly buckets: readonly { readonly address: number; readonly elements: number }[];
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
 * Called before a hop with three values: the index of the bucket, the name of the phase, and the
 * index of the hop in that phase, from 0. The name `all-reduce` stands for two phases on the second
 * axis. On a ring of n chips, the hops of the reduce-scatter there have the indices 0 to n − 1, and
 * those of the all-gather n to 2n − 1. A chunk that is larger than a frame is cut into pieces, and
 * each piece makes all hops of the phase.
 */
export type OnHop = (bucket: number, phase: CollectivePhase, hop: number) => void;

/**
 * Name of a phase of an all-reduce. A lane has four phases. The two on the lane's second axis share
 * the name `all-reduce`.
 */
export type CollectivePhase = 'reduce-scatter' | 'all-reduce' | 'all-gather';

const phaseNames = ['reduce-scatter', 'all-reduce', 'all-reduce', 'all-gather'] as const;

/**
 * What a lane waits for: the next frame from the link with the number `link`, or the release of
 * frames that were sent on this link.
 */
export interface LaneBlock {
  readonly link: number;
  readonly wants: 'frame' | 'release';
}

/** The ring of chips on one axis of a lane, with the position of this chip in the ring. */
interface Ring {
  readonly turn: Turn | undefined;
  readonly direction: Direction;
  readonly length: number;
  readonly position: number;
}

/**
 * State machine of one chip for one lane, a quarter of each vector. For each bucket, the lane
 * passes through four phases:
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
 *
 * A frame is a range of the vector of the chip that sends it. So the elements of this range must
 * not change until the receiver has read them. In a reduce-scatter, only the complete sum
 * overwrites an element that was sent. The sum is complete only after all receivers have read the
 * element. In an all-gather, an element that was sent stays as it is until the bucket has finished.
 * A bucket finishes when all its frames are released.
 *
 * The sequence of hops of a lane is fixed. {@link run} makes as many hops as the links allow.
 */
export class Lane {
  readonly #parts: LaneParts;
  readonly #rings: readonly [Ring, Ring];
  readonly #waits: LinkWaits;
  /** Index of the chip among the chips of its worker. */
  readonly #index: number;
  /** Indices of the started buckets: a circular buffer of `#queue.length` entries. */
  readonly #queue: Uint32Array;
  #started = 0;
  /** How many buckets have made all their hops. */
  #hopsDone = 0;
  /** How many buckets have finished: all their hops are made and all their frames are released. */
  #finished = 0;

  /** Byte address of the current bucket's vector. */
  #address = 0;
  /** Start of the lane's range in the current bucket's vector, in elements. */
  #laneStart = 0;
  /** Length of the lane's range in elements. */
  #laneLength = 0;
  /** Phase of the current bucket, 0 to 3. */
  #phase = 0;
  /** The ring of the current phase. */
  #ring: Ring;
  /**
   * Start of the range that the current phase cuts into chunks, in elements from the start of the
   * vector.
   */
  #rangeStart = 0;
  /** Length of the range that the current phase cuts into chunks, in elements. */
  #rangeLength = 0;
  /** How many pieces a chunk has in the current phase. */
  #pieces = 0;
  /** Largest number of elements of a piece in the current phase. */
  #pieceElements = 0;
  /** How many hops a piece makes in the current phase. On an axis of one chip, the number is 0. */
  #hops = 0;
  #piece = 0;
  #hop = 0;
  /** Byte address, in the chip's own vector, of the elements of the current hop. */
  #own = 0;
  /** Number of elements of the current hop. */
  #count = 0;
  /** How many frames were sent for the current bucket: one count for each axis of the lane. */
  readonly #sent = new Uint32Array(2);
  /** How many frames were received for the current bucket: one count for each axis of the lane. */
  readonly #received = new Uint32Array(2);
  /** How many frames were sent since the lane was made: one count for each axis of the lane. */
  readonly #sentEver = new Int32Array(2);
  /**
   * For each bucket in `#queue`: the two counts of `#sentEver`, one for each axis, after the last
   * hop of the bucket. When the receivers have released that many frames on both axes, the bucket
   * has finished.
   */
  readonly #sentWhenHopsDone: Int32Array;
  readonly #inFrame: Frame = emptyFrame();
  readonly #outFrame: Frame = emptyFrame();
  readonly #expected: Frame = emptyFrame();
  #wants: 'frame' | 'release' = 'frame';
  /**
   * The link whose next frame the lane waits for; undefined if the lane does not wait for a frame.
   */
  #awaited: InLink | undefined;

  constructor(parts: LaneParts) {
    this.#parts = parts;
    this.#waits = parts.waits;
    this.#index = placement(parts.torus, parts.chip).index;
    this.#rings = [makeRing(parts, 0), makeRing(parts, 1)];
    this.#ring = this.#rings[0];
    this.#queue = new Uint32Array(parts.buckets.length);
    this.#sentWhenHopsDone = new Int32Array(2 * parts.buckets.length);
    this.#outFrame.generation = parts.generation;
    this.#expected.generation = parts.generation;
  }

  /** How many buckets have finished: all their hops are made and all their frames are released. */
  get finished(): number {
    return this.#finished;
  }

  /** Puts a bucket at the end of the lane's queue. */
  start(bucket: number): void {
    const length = this.#queue.length;
    assert(this.#started - this.#finished < length, `lane ${this.#parts.lane}: a full queue`);
    this.#queue[this.#started % length] = bucket;
    this.#started++;
    if (this.#started > this.#hopsDone + 1) return;
    this.#enterBucket();
    this.#advance();
    this.#collect();
  }

  /** Makes every hop that is possible now. Returns true if a hop was made or a bucket finished. */
  run(): boolean {
    if (this.#finished === this.#hopsDone && this.#awaited?.isEmpty()) return false;
    const finishedBefore = this.#finished;
    let moved = false;
    while (this.#hopsDone < this.#started && this.#tryHop()) moved = true;
    this.#collect();
    return moved || this.#finished !== finishedBefore;
  }

  /**
   * Returns the events that the lane waits for. The list is empty if all started buckets have
   * finished.
   */
  blocked(): readonly LaneBlock[] {
    if (this.#hopsDone < this.#started) {
      const { turn } = this.#ring;
      if (turn === undefined) return [];
      const link = this.#wants === 'frame' ? turn.inNumber : turn.outNumber;
      return [{ link, wants: this.#wants }];
    }
    return this.#parts.turns.flatMap((turn, index) =>
      turn === undefined || turn.out.isReleased(this.#sentEver[index] ?? 0)
        ? []
        : [{ link: turn.outNumber, wants: 'release' as const }],
    );
  }

  /**
   * Makes the current hop and moves on to the next one. Returns false if the hop must wait for a
   * frame or for room in a queue.
   */
  #tryHop(): boolean {
    const turn = this.#ring.turn;
    if (turn === undefined) return false;
    const receives = this.#hop > 0;
    const sends = this.#hop < this.#hops - 1;
    if (receives && !turn.in.peek(this.#inFrame)) return this.#expect(turn, sends);
    if (this.#awaited !== undefined) this.#endWait();
    if (sends && !turn.out.hasRoom()) return this.#wait('release');
    if (this.#parts.onHop !== undefined) this.#report(this.#parts.onHop);
    if (receives) this.#receive(turn, sends);
    if (sends) this.#send(turn, receives ? this.#inFrame.crc : unknownCrc);
    this.#hop++;
    this.#advance();
    return true;
  }

  #report(onHop: OnHop): void {
    const bucket = at(this.#queue, this.#hopsDone % this.#queue.length);
    const before = this.#phase === 2 ? this.#hops : 0;
    onHop(bucket, at(phaseNames, this.#phase), before + this.#hop);
  }

  #wait(wants: 'frame' | 'release'): false {
    this.#wants = wants;
    return false;
  }

  /**
   * Records that the lane waits for the next frame. If the payload of that frame must replace
   * elements of the chip's own vector, tells the link their address. A link that copies payloads
   * can then copy this payload directly to that address.
   */
  #expect(turn: Turn, sends: boolean): false {
    if (this.#storesFrame(sends)) {
      const frame = this.#expected;
      frame.address = this.#own;
      frame.bytes = this.#count * 4;
      frame.collective = this.#hopsDone;
      frame.sequence = this.#received[this.#turnIndex()] ?? 0;
      turn.in.expect(frame);
    }
    if (this.#awaited === undefined) this.#waits.begin(this.#index, this.#parts.lane);
    this.#awaited = turn.in;
    return this.#wait('frame');
  }

  /** Called when the frame that the lane waited for has arrived. */
  #endWait(): void {
    this.#awaited = undefined;
    this.#waits.end(this.#index, this.#parts.lane, this.#ring.direction);
  }

  /**
   * True if the payload of the current hop must replace elements of the chip's own vector. In an
   * all-gather, this is so if the chip sends these elements on later, or if its vector must hold
   * the sum. In a reduce-scatter, a payload replaces nothing; it is added.
   */
  #storesFrame(sends: boolean): boolean {
    return this.#phase === 2 || (this.#phase === 3 && (sends || this.#parts.keepsSum));
  }

  /**
   * Handles the received frame and releases it. In a reduce-scatter, adds the payload to elements
   * of the chip's own vector. In an all-gather, copies the payload over these elements, unless
   * nothing reads them later. Throws PodError `bad-frame` if this is not the expected frame.
   */
  #receive(turn: Turn, sends: boolean): void {
    const { kernels } = this.#parts;
    const frame = this.#inFrame;
    this.#check(frame);
    if (this.#phase < 2) frame.crc = this.#add(frame.address, sends ? turn.out.crc : undefined);
    else if (this.#storesFrame(sends) && frame.address !== this.#own) {
      kernels.copy(this.#own, frame.address, this.#count);
    }
    turn.in.release();
  }

  /**
   * Adds a payload to the elements of the current hop in the chip's own vector. If `crc` is given,
   * returns the CRC-32 of the sums; otherwise returns {@link unknownCrc}.
   */
  #add(payload: number, crc: FrameCrc | undefined): number {
    const { kernels } = this.#parts;
    const own = this.#own;
    const count = this.#count;
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
   * Sends the elements of the current hop from the chip's own vector. `crc` is the CRC-32 of these
   * elements, or {@link unknownCrc}.
   */
  #send(turn: Turn, crc: number): void {
    const index = this.#turnIndex();
    const frame = this.#outFrame;
    frame.address = this.#own;
    frame.bytes = this.#count * 4;
    frame.collective = this.#hopsDone;
    frame.sequence = this.#sent[index] ?? 0;
    frame.crc = crc;
    turn.out.send(frame);
    this.#sent[index] = frame.sequence + 1;
    this.#sentEver[index] = (this.#sentEver[index] ?? 0) + 1;
  }

  /** Throws `bad-frame` unless the received frame is the expected next one. */
  #check(frame: Readonly<Frame>): void {
    const index = this.#turnIndex();
    const sequence = this.#received[index] ?? 0;
    if (
      frame.generation !== this.#parts.generation ||
      frame.collective !== this.#hopsDone ||
      frame.sequence !== sequence ||
      frame.bytes !== this.#count * 4
    ) {
      throw this.#badFrame(frame, sequence);
    }
    this.#received[index] = sequence + 1;
  }

  #badFrame(frame: Readonly<Frame>, sequence: number): PodError {
    const { generation, torus } = this.#parts;
    const link = linkName(torus, this.#ring.turn?.inNumber ?? 0);
    const expected = { generation, collective: this.#hopsDone, sequence, bytes: this.#count * 4 };
    const { address: _, crc: __, ...found } = frame;
    return new PodError(
      'bad-frame',
      `link ${link}: expected frame ${JSON.stringify(expected)}, found ${JSON.stringify(found)}`,
    );
  }

  /**
   * Counts the buckets that have finished: all their hops are made and all their frames are
   * released.
   */
  #collect(): void {
    while (this.#finished < this.#hopsDone && this.#isReleased(0) && this.#isReleased(1)) {
      this.#finished++;
    }
  }

  /**
   * True if, on the given axis of the lane, the receiver has released all frames of the oldest
   * unfinished bucket.
   */
  #isReleased(index: 0 | 1): boolean {
    const out = this.#parts.turns[index]?.out;
    const slot = this.#finished % this.#queue.length;
    return out === undefined || out.isReleased(this.#sentWhenHopsDone[2 * slot + index] ?? 0);
  }

  /**
   * Index of the axis of the current phase: 0 for the lane's first axis (phases 0 and 3), 1 for its
   * second axis (phases 1 and 2).
   */
  #turnIndex(): 0 | 1 {
    return this.#phase === 1 || this.#phase === 2 ? 1 : 0;
  }

  /**
   * Goes on to the next hop that has elements. If the current phase has no such hop, goes on to the
   * next phase, and after the last phase to the next started bucket. Stops when no started bucket
   * is left.
   */
  #advance(): void {
    while (this.#hopsDone < this.#started) {
      if (this.#hop < this.#hops) {
        if (this.#select()) return;
        this.#hop++;
      } else this.#nextPiece();
    }
  }

  /**
   * Computes the address and the number of the elements of the current hop. Returns false if the
   * hop has no elements.
   */
  #select(): boolean {
    const { direction, length, position } = this.#ring;
    const chunk = chunkAt(direction, length, position, this.#hop, this.#phase >= 2);
    const start = partStart(this.#rangeLength, length, chunk) + this.#piece * this.#pieceElements;
    const end = partStart(this.#rangeLength, length, chunk + 1);
    this.#own = this.#address + (this.#rangeStart + start) * 4;
    this.#count = Math.min(this.#pieceElements, end - start);
    return this.#count > 0;
  }

  #nextPiece(): void {
    this.#hop = 0;
    this.#piece++;
    if (this.#piece < this.#pieces) return;
    this.#phase++;
    if (this.#phase < 4) this.#enterPhase();
    else this.#leaveBucket();
  }

  #leaveBucket(): void {
    this.#sentWhenHopsDone.set(this.#sentEver, 2 * (this.#hopsDone % this.#queue.length));
    this.#hopsDone++;
    if (this.#hopsDone < this.#started) this.#enterBucket();
  }

  #enterBucket(): void {
    const { buckets, lane } = this.#parts;
    const bucket = buckets[this.#queue[this.#hopsDone % this.#queue.length] ?? 0];
    assert(bucket !== undefined, 'a bucket in the queue');
    this.#address = bucket.address;
    this.#laneStart = partStart(bucket.elements, laneCount, lane);
    this.#laneLength = partLength(bucket.elements, laneCount, lane);
    this.#phase = 0;
    this.#sent.fill(0);
    this.#received.fill(0);
    this.#enterPhase();
  }

  #enterPhase(): void {
    const [first, second] = this.#rings;
    const onFirst = this.#turnIndex() === 0;
    const length = this.#laneLength;
    this.#ring = onFirst ? first : second;
    this.#rangeStart =
      this.#laneStart + (onFirst ? 0 : partStart(length, first.length, first.position));
    this.#rangeLength = onFirst ? length : partLength(length, first.length, first.position);
    this.#hops = this.#ring.length === 1 ? 0 : this.#ring.length;
    const longest = longestPart(this.#rangeLength, this.#ring.length);
    this.#pieces = Math.max(1, Math.ceil(longest / this.#parts.frameElements));
    this.#pieceElements = longestPart(longest, this.#pieces);
    this.#piece = 0;
    this.#hop = 0;
  }
}

function makeRing({ torus, chip, lane, turns }: LaneParts, turn: 0 | 1): Ring {
  const direction = laneDirection(lane, turn);
  const axis = axisOf(direction);
  const length = axisLength(torus, axis);
  assert((length === 1) === (turns[turn] === undefined), `lane ${lane}: no link on a ring`);
  return { turn: turns[turn], direction, length, position: position(torus, chip, axis) };
}
