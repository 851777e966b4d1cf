import { queueDepth } from '../../src/fabric/fabric-memory.ts';
import type { FrameCrc } from '../../src/fabric/kernels/crc.ts';
import type { Frame, InLink, OutLink } from '../../src/fabric/link.ts';
import { emptyFrame } from '../../src/fabric/link.ts';
import { assert } from '../../src/numerics/assert.ts';
import { type Crossing, windowFrames } from './route.ts';
import type { Slots } from './slots.ts';
import { Window } from './window.ts';

/**
 * Bounded queue of frames (first in, first out), used by one thread only. Counts of frames are
 * modulo 2^32.
 */
export class FrameRing {
  readonly #frames: readonly Frame[] = Array.from({ length: queueDepth }, emptyFrame);
  #head = 0;
  #tail = 0;

  get length(): number {
    return (this.#head - this.#tail) >>> 0;
  }

  /** How many frames were taken out of the queue since the queue was created, modulo 2^32. */
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
 * State that all queues to one peer share. `isReady` is true if one of these queues may have a
 * frame that can be sent now, and false if there is certainly no such frame.
 */
export interface Outbox {
  isReady: boolean;
}

/**
 * Sending end of a queue to another process. Frames wait in this object until the kernel has taken
 * them.
 */
export class SocketOutLink implements OutLink {
  readonly crossing: Crossing;
  readonly crc: FrameCrc;
  readonly #outbox: Outbox;
  /** Counts the frames that the receiver has not yet released, and limits their number. */
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
   * Oldest frame of the queue, if it may be sent now. Undefined if no frame waits, or if too many
   * sent frames are unreleased. The frame stays in the queue until {@link sent} is called.
   */
  get next(): Readonly<Frame> | undefined {
    const mayGo = this.#waiting.length > 0 && this.window.hasRoom;
    return mayGo ? this.#waiting.oldest : undefined;
  }

  /**
   * Records a report of the receiver: it has released `count` frames (modulo 2^32) since the queue
   * was created. Returns false if the report is wrong, because fewer than `count` frames were sent.
   */
  giveBack(count: number): boolean {
    const isRight = this.window.release(count);
    if (this.#waiting.length > 0) this.#outbox.isReady = true;
    return isRight;
  }

  /**
   * Called when the kernel has taken the frame that {@link next} returned. Removes the frame from
   * the queue. From now on, the memory of the payload may be overwritten.
   */
  sent(): void {
    this.#waiting.take();
  }
}

/**
 * Receiving end of a queue from another process. Keeps received frames until the all-reduce
 * releases them. Each frame states the address of its payload.
 */
export class SocketInLink implements InLink {
  readonly crossing: Crossing;
  /**
   * Counts the received frames whose release has not been reported to the sender. The sender's
   * window counts these frames as not yet released.
   */
  readonly window: Window = new Window(windowFrames);
  /**
   * Pool of slots, which are receive buffers. If the all-reduce has announced an address for a
   * payload with {@link expect}, the payload goes to that address; otherwise it goes into a slot.
   */
  readonly #slots: Slots;
  readonly #present: FrameRing = new FrameRing();
  /**
   * Incoming queues whose senders must soon stop, because nearly as many frames as allowed are not
   * reported as released. The pump sends a credit, which is a report of released frames, for each
   * of these queues. All incoming queues share this array.
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
   * Chooses the memory for the payload of an arriving frame and stores its address in
   * `frame.address`. If the all-reduce has announced an address for this frame with {@link expect},
   * chooses that address and returns false. Otherwise takes a slot, which is a receive buffer, and
   * returns true. The caller must have checked that the window has room for one more frame.
   */
  place(frame: Frame): boolean {
    this.window.put();
    const isAwaited = this.#isExpected && isSame(frame, this.#expected);
    frame.address = isAwaited ? this.#expected.address : this.#slots.take();
    this.#isExpected = false;
    return !isAwaited;
  }

  /**
   * Sets `frame.address` to `address`, where the payload already lies in shared memory. The window
   * must not be full.
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
   * Returns how many frames were released since the queue was created (modulo 2^32), and marks
   * these frames as reported in the window. The caller must therefore send the returned number to
   * the sender of the queue.
   */
  giveBack(): number {
    const released = this.#present.taken;
    const isRight = this.window.release(released);
    assert(isRight, `queue ${this.crossing.queue}: ${released} frames released`);
    return released;
  }

  /**
   * True if the receiver should report the released frames to the sender now: less than a quarter
   * of the window is free, and after the report at least a quarter is free.
   */
  get isCrowded(): boolean {
    const { back, releasesNeeded } = this.window;
    return releasesNeeded > 0 && ((this.#present.taken - back - releasesNeeded) | 0) >= 0;
  }
}

/** Copies all fields of a frame. */
export function copyFrame(from: Readonly<Frame>, to: Frame): void {
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
