import { queueDepth } from '../../src/fabric/fabric-memory.ts';
import type { FrameCrc } from '../../src/fabric/kernels/crc.ts';
import type { Frame, InLink, OutLink } from '../../src/fabric/link.ts';
import { emptyFrame } from '../../src/fabric/link.ts';
import { assert } from '../../src/numerics/assert.ts';
import { type Crossing, windowFrames } from './route.ts';
import type { Slots } from './slots.ts';
import { Window } from './window.ts';

/** A bounded queue of frames on one thread. Counts are modulo 2^32. */
class FrameRing {
  readonly #frames: readonly Frame[] = Array.from({ length: queueDepth }, emptyFrame);
  #head = 0;
  #tail = 0;

  get length(): number {
    return (this.#head - this.#tail) >>> 0;
  }

  /** Frames ever taken out. */
  get taken(): number {
    return this.#tail;
  }

  put(frame: Readonly<Frame>): void {
    assert(this.length < queueDepth, 'a frame for which there is no room');
    copyFrame(frame, this.#slot(this.#head));
    this.#head = (this.#head + 1) >>> 0;
  }

  /** The oldest, of which there must be one. */
  get oldest(): Readonly<Frame> {
    return this.#slot(this.#tail);
  }

  take(): void {
    assert(this.length > 0, 'a frame taken that is not there');
    this.#tail = (this.#tail + 1) >>> 0;
  }

  #slot(count: number): Frame {
    const frame = this.#frames[count % queueDepth];
    assert(frame !== undefined, 'a place for a frame');
    return frame;
  }
}

/** Whether any of the queues to one process may have a frame to be sent. */
export interface Outbox {
  isReady: boolean;
}

/** The sending end of a queue to another process: frames wait here for their connection. */
export class SocketOutLink implements OutLink {
  readonly crossing: Crossing;
  readonly crc: FrameCrc;
  readonly #outbox: Outbox;
  /** What the receiver has of them, and has not given back. */
  readonly window: Window = new Window(windowFrames);
  readonly #waiting: FrameRing = new FrameRing();
  #bytes = 0;

  constructor(crossing: Crossing, outbox: Outbox, crc: FrameCrc) {
    this.crossing = crossing;
    this.crc = crc;
    this.#outbox = outbox;
  }

  /** Payload bytes ever sent. */
  get bytes(): number {
    return this.#bytes;
  }

  hasRoom(): boolean {
    return this.#waiting.length < queueDepth;
  }

  send(frame: Readonly<Frame>): void {
    this.#waiting.put(frame);
    this.#outbox.isReady = true;
    this.#bytes += frame.bytes;
  }

  isReleased(count: number): boolean {
    return ((this.#waiting.taken - count) | 0) >= 0;
  }

  /** The frame that may go now, if any. It stays where it is until {@link sent}. */
  get next(): Readonly<Frame> | undefined {
    const mayGo = this.#waiting.length > 0 && this.window.hasRoom;
    return mayGo ? this.#waiting.oldest : undefined;
  }

  /** The receiver has given back `count` frames ever; false when there were not so many. */
  giveBack(count: number): boolean {
    const isRight = this.window.giveBack(count);
    if (this.#waiting.length > 0) this.#outbox.isReady = true;
    return isRight;
  }

  /** The kernel has the next frame: its range is the sender's again. */
  sent(): void {
    this.#waiting.take();
  }
}

/** The receiving end of a queue from another process: frames that have come, each in its place. */
export class SocketInLink implements InLink {
  readonly crossing: Crossing;
  /** As the sender sees it. */
  readonly window: Window = new Window(windowFrames);
  /** Where frames come that are to be summed, or that nobody waits for. */
  readonly #slots: Slots;
  readonly #present: FrameRing = new FrameRing();
  /** Links whose sender should hear that frames have been given back, if no frame tells it. */
  readonly #due: SocketInLink[];
  readonly #expected: Frame = emptyFrame();
  #isExpected = false;

  constructor(crossing: Crossing, slots: Slots, due: SocketInLink[]) {
    this.crossing = crossing;
    this.#slots = slots;
    this.#due = due;
  }

  isEmpty(): boolean {
    return this.#present.length === 0;
  }

  peek(frame: Frame): boolean {
    if (this.isEmpty()) return false;
    copyFrame(this.#present.oldest, frame);
    return true;
  }

  release(): void {
    const { address } = this.#present.oldest;
    if (this.#slots.has(address)) this.#slots.give(address);
    this.#present.take();
    if (this.isCrowded && !this.#due.includes(this)) this.#due.push(this);
  }

  expect(frame: Readonly<Frame>): void {
    copyFrame(frame, this.#expected);
    this.#isExpected = true;
  }

  /**
   * Sets the address to which the payload of a frame goes, and says whether that is a slot; there
   * must be room in the window.
   */
  place(frame: Frame): boolean {
    this.window.put();
    const isAwaited = this.#isExpected && isSame(frame, this.#expected);
    frame.address = isAwaited ? this.#expected.address : this.#slots.take();
    this.#isExpected = false;
    return !isAwaited;
  }

  /** Says that a frame lies where it is to be read; there must be room in the window. */
  placeAt(frame: Frame, address: number): void {
    this.window.put();
    frame.address = address;
    this.#isExpected = false;
  }

  /** A frame has come to where it was placed. */
  deliver(frame: Readonly<Frame>): void {
    this.#present.put(frame);
  }

  /** Counts frames back of which the sender has not heard, and gives how many there ever were. */
  giveBack(): number {
    const released = this.#present.taken;
    const isRight = this.window.giveBack(released);
    assert(isRight, `queue ${this.crossing.queue}: ${released} frames released`);
    return released;
  }

  /** Whether the sender, as far as it has heard, will soon be out of room without need. */
  get isCrowded(): boolean {
    const { back, crowded } = this.window;
    return crowded > 0 && ((this.#present.taken - back - crowded) | 0) >= 0;
  }
}

function copyFrame(from: Readonly<Frame>, to: Frame): void {
  to.address = from.address;
  to.bytes = from.bytes;
  to.generation = from.generation;
  to.collective = from.collective;
  to.sequence = from.sequence;
  to.crc = from.crc;
}

function isSame(one: Readonly<Frame>, other: Readonly<Frame>): boolean {
  return (
    one.sequence === other.sequence &&
    one.collective === other.collective &&
    one.generation === other.generation &&
    one.bytes === other.bytes
  );
}
