import { assert } from '../numerics/assert.ts';
import { PodError } from '../numerics/error.ts';
import { cachedBytes, type FrameCrc } from './kernels/crc.ts';
import type { SumKernels } from './kernels/sum.ts';
import type { Frame, InLink, OutLink } from './link.ts';
import { emptyFrame, unknownCrc } from './link.ts';
import { chunkAt, laneCount, laneDirection, longestPart, partLength, partStart } from './part.ts';
import type { Direction, Torus } from './torus.ts';
import { axisLength, axisOf, linkName, position } from './torus.ts';

/** A sum and its CRC are made in parts of so many elements. */
const cachedElements = cachedBytes / 4;

/** What a chip has on one of a lane's two axes: the ends of its links and their numbers. */
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
  /** The most elements of a frame. */
  readonly frameElements: number;
  readonly kernels: SumKernels;
  /** Whether this chip's vector is to receive the sum; the chip passes every frame on either way. */
  readonly keepsSum: boolean;
  /** The chip's own vectors: byte addresses. */
  readonly buckets: readonly { readonly address: number; readonly elements: number }[];
  /** Ends on the first and the second axis; none on an axis of one chip. */
  readonly turns: readonly [Turn | undefined, Turn | undefined];
}

/** What a lane waits for: the next frame of a link, or the release of those it has sent. */
export interface LaneBlock {
  readonly link: number;
  readonly wants: 'frame' | 'release';
}

/** The ring of one axis as a lane of one chip sees it. */
interface Ring {
  readonly turn: Turn | undefined;
  readonly direction: Direction;
  readonly length: number;
  readonly position: number;
}

/**
 * What a chip does with one quarter of each vector. It passes through four phases:
 * reduce-scatter on the first axis, reduce-scatter and all-gather of the chip's chunk on the
 * second, all-gather on the first. In a ring of n chips a phase is n hops: the first sends a chunk
 * of the chip's own, the next n − 2 receive, sum or keep, and send on, and the last receives.
 * A chunk that exceeds a frame goes in pieces, each through the whole ring before the next, so
 * that two frames a queue are enough and no ring can block itself.
 *
 * Sums form in the chip's own vector and are sent from there. An element that was sent is written
 * again only when its sum comes back, which is after every receiver has read it; what the gather
 * sends is not written again before the bucket has finished, and that waits for its release.
 *
 * A lane is one fixed sequence of hops; `run` goes along it as far as its links allow.
 */
export class Lane {
  readonly #parts: LaneParts;
  readonly #rings: readonly [Ring, Ring];
  /** Buckets to come, a circle of `#queue.length` places. */
  readonly #queue: Uint32Array;
  #started = 0;
  /** Buckets whose every hop has been made. */
  #passed = 0;
  /** Buckets among those whose frames have all been released. */
  #finished = 0;

  /** Byte address of the present bucket's vector, and the lane's elements in it. */
  #address = 0;
  #laneStart = 0;
  #laneLength = 0;
  #phase = 0;
  /** The ring of the present phase. */
  #ring: Ring;
  #rangeStart = 0;
  #rangeLength = 0;
  #pieces = 0;
  #pieceElements = 0;
  #hops = 0;
  #piece = 0;
  #hop = 0;
  /** Byte address and number of the chip's own elements in the present hop. */
  #own = 0;
  #count = 0;
  /** Frames of the present bucket, by turn. */
  readonly #sent = new Uint32Array(2);
  readonly #received = new Uint32Array(2);
  /** Frames ever sent, by turn; and as it was when each bucket of the queue had passed. */
  readonly #sentEver = new Int32Array(2);
  readonly #sentAtPass: Int32Array;
  readonly #inFrame: Frame = emptyFrame();
  readonly #outFrame: Frame = emptyFrame();
  readonly #expected: Frame = emptyFrame();
  #wants: 'frame' | 'release' = 'frame';
  /** From which link the next frame has been asked for. */
  #awaited: InLink | undefined;

  constructor(parts: LaneParts) {
    this.#parts = parts;
    this.#rings = [makeRing(parts, 0), makeRing(parts, 1)];
    this.#ring = this.#rings[0];
    this.#queue = new Uint32Array(parts.buckets.length);
    this.#sentAtPass = new Int32Array(2 * parts.buckets.length);
    this.#outFrame.generation = parts.generation;
    this.#expected.generation = parts.generation;
  }

  /** Number of buckets that are done with. */
  get finished(): number {
    return this.#finished;
  }

  /** Puts a bucket at the end of the lane's queue. */
  start(bucket: number): void {
    const length = this.#queue.length;
    assert(this.#started - this.#finished < length, `lane ${this.#parts.lane}: a full queue`);
    this.#queue[this.#started % length] = bucket;
    this.#started++;
    if (this.#started > this.#passed + 1) return;
    this.#enterBucket();
    this.#settle();
    this.#collect();
  }

  /** Makes every hop that is possible now, and says whether anything came of it. */
  run(): boolean {
    if (this.#finished === this.#passed && this.#awaited?.isEmpty()) return false;
    const finishedBefore = this.#finished;
    let moved = false;
    while (this.#passed < this.#started && this.#tryHop()) moved = true;
    this.#collect();
    return moved || this.#finished !== finishedBefore;
  }

  /** What the lane waits for; nothing when all that was started is finished. */
  blocked(): readonly LaneBlock[] {
    if (this.#passed < this.#started) {
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

  /** Makes the present hop, if its links are ready, and moves on to the next. */
  #tryHop(): boolean {
    const turn = this.#ring.turn;
    if (turn === undefined) return false;
    const receives = this.#hop > 0;
    const sends = this.#hop < this.#hops - 1;
    if (receives && !turn.in.peek(this.#inFrame)) return this.#expect(turn, sends);
    if (sends && !turn.out.hasRoom()) return this.#wait('release');
    this.#awaited = undefined;
    if (receives) this.#take(turn, sends);
    if (sends) this.#send(turn, receives ? this.#inFrame.crc : unknownCrc);
    this.#hop++;
    this.#settle();
    return true;
  }

  #wait(wants: 'frame' | 'release'): false {
    this.#wants = wants;
    return false;
  }

  /** Waits for the next frame. What is to be kept as it comes may come to its place at once. */
  #expect(turn: Turn, sends: boolean): false {
    if (this.#keeps(sends)) {
      const frame = this.#expected;
      frame.address = this.#own;
      frame.bytes = this.#count * 4;
      frame.collective = this.#passed;
      frame.sequence = this.#received[this.#turnIndex()] ?? 0;
      turn.in.expect(frame);
    }
    this.#awaited = turn.in;
    return this.#wait('frame');
  }

  /** Whether the frame of the present hop replaces the chip's own elements, and is read there. */
  #keeps(sends: boolean): boolean {
    return this.#phase === 2 || (this.#phase === 3 && (sends || this.#parts.keepsSum));
  }

  /** Sums or keeps the received frame, as far as somebody will read it, and gives it back. */
  #take(turn: Turn, sends: boolean): void {
    const { kernels } = this.#parts;
    const frame = this.#inFrame;
    this.#check(frame);
    if (this.#phase < 2) frame.crc = this.#add(frame.address, sends ? turn.out.crc : undefined);
    else if (this.#keeps(sends) && frame.address !== this.#own) {
      kernels.copy(this.#own, frame.address, this.#count);
    }
    turn.in.release();
  }

  /** Adds a payload to the chip's own elements, and gives the CRC-32 of these where that is wanted. */
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

  /** Sends the chip's own elements; `crc` is theirs, where it is known. */
  #send(turn: Turn, crc: number): void {
    const index = this.#turnIndex();
    const frame = this.#outFrame;
    frame.address = this.#own;
    frame.bytes = this.#count * 4;
    frame.collective = this.#passed;
    frame.sequence = this.#sent[index] ?? 0;
    frame.crc = crc;
    turn.out.send(frame);
    this.#sent[index] = frame.sequence + 1;
    this.#sentEver[index] = (this.#sentEver[index] ?? 0) + 1;
  }

  /** Throws `bad-frame` unless the received frame is the one that comes next. */
  #check(frame: Readonly<Frame>): void {
    const index = this.#turnIndex();
    const sequence = this.#received[index] ?? 0;
    if (
      frame.generation !== this.#parts.generation ||
      frame.collective !== this.#passed ||
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
    const expected = { generation, collective: this.#passed, sequence, bytes: this.#count * 4 };
    const { address: _, crc: __, ...found } = frame;
    return new PodError(
      'bad-frame',
      `link ${link}: expected frame ${JSON.stringify(expected)}, found ${JSON.stringify(found)}`,
    );
  }

  /** Counts the buckets whose frames have all been released. */
  #collect(): void {
    while (this.#finished < this.#passed && this.#isReleased(0) && this.#isReleased(1)) {
      this.#finished++;
    }
  }

  /** Whether the frames that the oldest passed bucket sent on a turn have been released. */
  #isReleased(index: 0 | 1): boolean {
    const out = this.#parts.turns[index]?.out;
    const slot = this.#finished % this.#queue.length;
    return out === undefined || out.isReleased(this.#sentAtPass[2 * slot + index] ?? 0);
  }

  /** 0 on the first axis, in phases 0 and 3; 1 on the second. */
  #turnIndex(): 0 | 1 {
    return this.#phase === 1 || this.#phase === 2 ? 1 : 0;
  }

  /** Goes on to the next hop that carries something, through phases and buckets. */
  #settle(): void {
    while (this.#passed < this.#started) {
      if (this.#hop < this.#hops) {
        if (this.#select()) return;
        this.#hop++;
      } else this.#nextPiece();
    }
  }

  /** Finds the elements of the present hop; false when there are none. */
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
    this.#sentAtPass.set(this.#sentEver, 2 * (this.#passed % this.#queue.length));
    this.#passed++;
    if (this.#passed < this.#started) this.#enterBucket();
  }

  #enterBucket(): void {
    const { buckets, lane } = this.#parts;
    const bucket = buckets[this.#queue[this.#passed % this.#queue.length] ?? 0];
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
