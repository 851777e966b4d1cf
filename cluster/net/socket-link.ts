import { queueDepth } from '../../src/fabric/fabric-memory.ts';
import type { FrameCrc } from '../../src/fabric/kernels/crc.ts';
import type { Frame, InLink, OutLink } from '../../src/fabric/link.ts';
import { emptyFrame } from '../../src/fabric/link.ts';
import { assert } from '../../src/numerics/assert.ts';
import { type Crossing, windowFrames } from './route.ts';
import type { Slots } from './slots.ts';
import { Window } from './window.ts';

/** Bounded queue of frames (first in, first out) for use on one thread. Counts are modulo 2^32. */
class FrameRing {
  readonly #frames: readonly Frame[] = Array.from({ length: queueDepth }, emptyFrame);
  #head = 0;
  #tail = 0;

  get length(): number {
    return (this.#head - this.#tail) >>> 0;
  }

  /** Number of frames ever taken out of the queue. */
  get taken(): number {
    return this.#tail;
  }

  put(frame: Readonly<Frame>): void {
    assert(this.length < queueDepth, 'a frame for which there is no room');
    copyFrame(frame, this.#slot(this.#head));
    this.#head = (this.#head + 1) >>> 0;
  }

  /** Oldest frame of the queue. The queue must not be empty. */
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

/**
 * State that all queues to one process share. `isReady` is true if one of these queues may have a
 * frame to send.
 */
export interface Outbox {
  isReady: boolean;
}

/**
 * Sending end of a queue to another process. Frames wait here until their connection takes them.
 */
export class SocketOutLink implements OutLink {
  readonly crossing: Crossing;
  readonly crc: FrameCrc;
  readonly #outbox: Outbox;
  /** Counts the frames that were sent and that the receiver has not released. */
  readonly window: Window = new Window(windowFrames);
  readonly #waiting: FrameRing = new FrameRing();
  #bytes = 0;

  constructor(crossing: Crossing, outbox: Outbox, crc: FrameCrc) {
    this.crossing = crossing;
    this.crc = crc;
    this.#outbox = outbox;
  }

  /** Sum of the payload bytes of all frames passed to `send`. */
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

  /**
   * Next frame that may be sent now, or undefined. The frame stays in the queue until {@link sent}.
   */
  get next(): Readonly<Frame> | undefined {
    const mayGo = this.#waiting.length > 0 && this.window.hasRoom;
    return mayGo ? this.#waiting.oldest : undefined;
  }

  /**
   * Records that the receiver has released `count` frames ever (modulo 2^32). Returns false if
   * fewer frames were sent.
   */
  giveBack(count: number): boolean {
    const isRight = this.window.release(count);
    if (this.#waiting.length > 0) this.#outbox.isReady = true;
    return isRight;
  }

  /**
   * Called when the kernel has taken the next frame. Releases that frame: the sender may write to
   * its range again.
   */
  sent(): void {
    this.#waiting.take();
  }
}

/**
 * Receiving end of a queue from another process. Holds received frames, each at its own address.
 */
export class SocketInLink implements InLink {
  readonly crossing: Crossing;
  /**
   * Counts the received frames for which the sender has no credit back yet, which is how the sender
   * sees the queue.
   */
  readonly window: Window = new Window(windowFrames);
  /** Slots for the payloads of frames that are to be summed, or that no lane waits for. */
  readonly #slots: Slots;
  readonly #present: FrameRing = new FrameRing();
  /**
   * Queues whose sender needs a credit, unless a tensor frame reports the released frames first.
   */
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
   * Sets `frame.address` to where the payload must go. Returns true if that is a slot, and false if
   * it is the address that {@link expect} gave for this frame. The window must have room.
   */
  place(frame: Frame): boolean {
    this.window.put();
    const isAwaited = this.#isExpected && isSame(frame, this.#expected);
    frame.address = isAwaited ? this.#expected.address : this.#slots.take();
    this.#isExpected = false;
    return !isAwaited;
  }

  /**
   * Sets `frame.address` to `address`, where the payload already lies. The window must have room.
   */
  placeAt(frame: Frame, address: number): void {
    this.window.put();
    frame.address = address;
    this.#isExpected = false;
  }

  /** Appends a frame whose payload has arrived at `frame.address`. */
  deliver(frame: Readonly<Frame>): void {
    this.#present.put(frame);
  }

  /**
   * Returns the number of frames ever released (modulo 2^32). The caller must send that number to
   * the sender; the window counts the frames as reported.
   */
  giveBack(): number {
    const released = this.#present.taken;
    const isRight = this.window.release(released);
    assert(isRight, `queue ${this.crossing.queue}: ${released} frames released`);
    return released;
  }

  /**
   * True if the sender will soon run out of credit only because it has not been told of released
   * frames.
   */
  get isCrowded(): boolean {
    const { back, releasesNeeded } = this.window;
    return releasesNeeded > 0 && ((this.#present.taken - back - releasesNeeded) | 0) >= 0;
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
