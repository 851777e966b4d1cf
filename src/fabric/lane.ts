import { assert } from '../numerics/assert.ts';
import { PodError } from '../numerics/error.ts';
import type { SumKernels } from './kernels/sum.ts';
import type { InLink, OutLink } from './link.ts';
import { frameHeaderBytes, headerIs, readHeader, writeHeader } from './link.ts';
import {
  blockElements,
  chunkAt,
  laneCount,
  laneDirection,
  longestPart,
  partLength,
  partStart,
} from './part.ts';
import type { Direction, Torus } from './torus.ts';
import { axisLength, axisOf, linkName, position } from './torus.ts';

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
  readonly epoch: number;
  /** The shared memory. */
  readonly words: Uint32Array;
  readonly kernels: SumKernels;
  /** Whether this chip's vector is to receive the sum; the chip passes every frame on either way. */
  readonly keepsSum: boolean;
  /** The chip's own vectors: byte addresses. */
  readonly buckets: readonly { readonly address: number; readonly elements: number }[];
  /** Ends on the first and the second axis; none on an axis of one chip. */
  readonly turns: readonly [Turn | undefined, Turn | undefined];
}

/** What a lane waits for: the next frame of a link, or room on it. */
export interface LaneBlock {
  readonly link: number;
  readonly wants: 'frame' | 'room';
}

/** The ring of one axis as a lane of one chip sees it. */
interface Ring {
  readonly turn: Turn | undefined;
  readonly direction: Direction;
  readonly length: number;
  readonly position: number;
}

/**
 * What a chip does with one quarter of each vector. A block passes through four phases:
 * reduce-scatter on the first axis, reduce-scatter and all-gather of the chip's chunk on the
 * second, all-gather on the first. In a ring of n chips a phase is n hops: the first sends a chunk
 * of the chip's own, the next n − 2 receive, add or keep, and send on, and the last receives.
 * A chunk that exceeds a frame goes in pieces, each through the whole ring before the next, so
 * that two frames a queue are enough and no ring can block itself.
 *
 * A lane is one fixed sequence of hops; `run` goes along it as far as its links allow.
 */
export class Lane {
  readonly #parts: LaneParts;
  readonly #rings: readonly [Ring, Ring];
  readonly #blockElements: number;
  /** Buckets to come, a circle of `#queue.length` places. */
  readonly #queue: Uint32Array;
  #started = 0;
  #finished = 0;

  /** Of the present bucket: byte address of the vector, and the lane's elements in it. */
  #address = 0;
  #laneStart = 0;
  #laneLength = 0;
  #block = 0;
  #phase = 0;
  /** Of the present phase. */
  #ring: Ring;
  #rangeStart = 0;
  #rangeLength = 0;
  #pieces = 0;
  #hops = 0;
  #piece = 0;
  #hop = 0;
  /** Of the present hop: byte address of the chip's own elements, and their number. */
  #own = 0;
  #count = 0;
  /** Frames of the present bucket, by turn. */
  readonly #sent = new Uint32Array(2);
  readonly #received = new Uint32Array(2);
  #wants: 'frame' | 'room' = 'frame';

  constructor(parts: LaneParts) {
    this.#parts = parts;
    this.#rings = [makeRing(parts, 0), makeRing(parts, 1)];
    this.#ring = this.#rings[0];
    this.#blockElements = blockElements(parts.torus, parts.lane);
    this.#queue = new Uint32Array(parts.buckets.length);
  }

  /** Number of buckets that have passed. */
  get finished(): number {
    return this.#finished;
  }

  /** Puts a bucket at the end of the lane's queue. */
  start(bucket: number): void {
    const length = this.#queue.length;
    assert(this.#started - this.#finished < length, `lane ${this.#parts.lane}: a full queue`);
    this.#queue[this.#started % length] = bucket;
    this.#started++;
    if (this.#started > this.#finished + 1) return;
    this.#enterBucket();
    this.#settle();
  }

  /** Makes every hop that is possible now, and says whether there was one. */
  run(): boolean {
    let moved = false;
    while (this.#finished < this.#started && this.#tryHop()) moved = true;
    return moved;
  }

  /** What the lane waits for, unless it has nothing to do. */
  blocked(): LaneBlock | undefined {
    const { turn } = this.#ring;
    if (this.#finished === this.#started || !turn) return undefined;
    const link = this.#wants === 'frame' ? turn.inNumber : turn.outNumber;
    return { link, wants: this.#wants };
  }

  /** Makes the present hop, if its links are ready, and moves on to the next. */
  #tryHop(): boolean {
    const turn = this.#ring.turn;
    if (turn === undefined) return false;
    const bytes = this.#count * 4;
    const receives = this.#hop > 0;
    const sends = this.#hop < this.#hops - 1;
    const inFrame = receives ? turn.in.peek() : 0;
    if (receives && inFrame === 0) return this.#wait('frame');
    const outFrame = sends ? turn.out.reserve(bytes) : 0;
    if (sends && outFrame === 0) return this.#wait('room');
    if (receives) this.#check(inFrame, bytes);
    this.#work(inFrame + frameHeaderBytes, outFrame + frameHeaderBytes, receives, sends);
    if (sends) this.#commit(turn, outFrame, bytes);
    if (receives) turn.in.release();
    this.#hop++;
    this.#settle();
    return true;
  }

  #wait(wants: 'frame' | 'room'): false {
    this.#wants = wants;
    return false;
  }

  /** The arithmetic of the present hop, on payloads. */
  #work(input: number, output: number, receives: boolean, sends: boolean): void {
    const { kernels, keepsSum } = this.#parts;
    const own = this.#own;
    const count = this.#count;
    if (!receives) kernels.copy(output, own, count);
    else if (this.#phase < 2) kernels.add(sends ? output : own, input, own, count);
    else if (!(keepsSum || this.#phase === 2)) {
      if (sends) kernels.copy(output, input, count);
    } else if (sends) kernels.copyToBoth(own, output, input, count);
    else kernels.copy(own, input, count);
  }

  #commit(turn: Turn, frame: number, bytes: number): void {
    const { words, epoch } = this.#parts;
    const index = this.#turnIndex();
    const sequence = this.#sent[index] ?? 0;
    writeHeader(words, frame, epoch, this.#finished, sequence, bytes);
    this.#sent[index] = sequence + 1;
    turn.out.commit();
  }

  /** Throws `bad-frame` unless the received frame is the one that comes next. */
  #check(frame: number, bytes: number): void {
    const { words, epoch } = this.#parts;
    const index = this.#turnIndex();
    const sequence = this.#received[index] ?? 0;
    if (!headerIs(words, frame, epoch, this.#finished, sequence, bytes)) {
      throw this.#badFrame(frame, sequence, bytes);
    }
    this.#received[index] = sequence + 1;
  }

  #badFrame(frame: number, sequence: number, bytes: number): PodError {
    const { words, epoch, torus } = this.#parts;
    const found = readHeader(words, frame);
    const link = linkName(torus, this.#ring.turn?.inNumber ?? 0);
    const expected = { epoch, collective: this.#finished, sequence, bytes };
    return new PodError(
      'bad-frame',
      `link ${link}: expected frame ${JSON.stringify(expected)}, found ${JSON.stringify(found)}`,
    );
  }

  /** 0 on the first axis, in phases 0 and 3; 1 on the second. */
  #turnIndex(): 0 | 1 {
    return this.#phase === 1 || this.#phase === 2 ? 1 : 0;
  }

  /** Goes on to the next hop that carries something, through phases, blocks and buckets. */
  #settle(): void {
    while (this.#finished < this.#started) {
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
    const capacity = pieceElements(this.#ring);
    const start = partStart(this.#rangeLength, length, chunk) + this.#piece * capacity;
    const end = partStart(this.#rangeLength, length, chunk + 1);
    this.#own = this.#address + (this.#rangeStart + start) * 4;
    this.#count = Math.min(capacity, end - start);
    return this.#count > 0;
  }

  #nextPiece(): void {
    this.#hop = 0;
    this.#piece++;
    if (this.#piece < this.#pieces) return;
    this.#phase++;
    if (this.#phase === 4) {
      this.#phase = 0;
      this.#block++;
    }
    if (this.#block * this.#blockElements < this.#laneLength) this.#enterPhase();
    else this.#leaveBucket();
  }

  #leaveBucket(): void {
    this.#finished++;
    if (this.#finished < this.#started) this.#enterBucket();
  }

  #enterBucket(): void {
    const { buckets, lane } = this.#parts;
    const bucket = buckets[this.#queue[this.#finished % this.#queue.length] ?? 0];
    assert(bucket !== undefined, 'a bucket in the queue');
    this.#address = bucket.address;
    this.#laneStart = partStart(bucket.elements, laneCount, lane);
    this.#laneLength = partLength(bucket.elements, laneCount, lane);
    this.#block = 0;
    this.#phase = 0;
    this.#sent.fill(0);
    this.#received.fill(0);
    this.#enterPhase();
  }

  #enterPhase(): void {
    const [first, second] = this.#rings;
    const blockStart = this.#block * this.#blockElements;
    const blockLength = Math.min(this.#blockElements, this.#laneLength - blockStart);
    const onFirst = this.#turnIndex() === 0;
    this.#ring = onFirst ? first : second;
    this.#rangeStart =
      this.#laneStart +
      blockStart +
      (onFirst ? 0 : partStart(blockLength, first.length, first.position));
    this.#rangeLength = onFirst
      ? blockLength
      : partLength(blockLength, first.length, first.position);
    this.#hops = this.#ring.length === 1 ? 0 : this.#ring.length;
    this.#pieces = Math.ceil(
      longestPart(this.#rangeLength, this.#ring.length) / pieceElements(this.#ring),
    );
    this.#piece = 0;
    this.#hop = 0;
  }
}

/** Elements of a full frame. */
function pieceElements(ring: Ring): number {
  return ring.turn === undefined ? Number.MAX_SAFE_INTEGER : ring.turn.out.maxBytes / 4;
}

function makeRing({ torus, chip, lane, turns }: LaneParts, turn: 0 | 1): Ring {
  const direction = laneDirection(lane, turn);
  const axis = axisOf(direction);
  const length = axisLength(torus, axis);
  assert((length === 1) === (turns[turn] === undefined), `lane ${lane}: no link on a ring`);
  return { turn: turns[turn], direction, length, position: position(torus, chip, axis) };
}
