import type { FrameCrc } from './kernels/crc.ts';

/**
 * Sending end of one queue of a directed link. The queue holds a limited number of frames. Two
 * lanes share a link: a lane of colour 0, which starts along X, and a lane of colour 1, which
 * starts along Y. Each of them has a queue of its own, so that the two lanes never block each
 * other.
 *
 * A frame is a range of the sender's memory. Nothing is copied to be sent, so the sender must not
 * write to the range until the receiver has released the frame. No method of either end waits.
 */
export interface OutLink {
  /** Computes the CRC-32 of payloads; undefined if the frames of this link carry no CRC. */
  readonly crc: FrameCrc | undefined;
  /** True if the queue has room for another frame. */
  hasRoom(): boolean;
  /** Puts a frame into the queue. The caller must have checked {@link hasRoom}. */
  send(frame: Readonly<Frame>): void;
  /**
   * True if the receiver has released the first `count` frames (modulo 2^32) that this link sent
   * since its creation.
   */
  isReleased(count: number): boolean;
}

/** Receiving end of one queue of a directed link. */
export interface InLink {
  /** True if no frame has arrived. Callers poll this, so the check must be cheap. */
  isEmpty(): boolean;
  /** Fills `frame` with the oldest frame of the queue. Returns false if the queue is empty. */
  peek(frame: Frame): boolean;
  /**
   * Releases the frame that {@link peek} returned. The sender may then write to the frame's range
   * again.
   */
  release(): void;
  /**
   * Called by the receiver while the queue is empty. `frame` describes the frame that the receiver
   * waits for; `frame.address` is the address where the receiver wants the payload. A link that
   * copies payloads may copy this payload straight to that address. {@link peek} then returns that
   * address.
   */
  expect(frame: Readonly<Frame>): void;
}

/**
 * A payload with the numbers that identify it. The receiver uses them to detect a lost, repeated or
 * late frame.
 */
export interface Frame {
  /** Byte address of the payload in the emulator's memory. */
  address: number;
  /** Length of the payload in bytes, a multiple of 4. */
  bytes: number;
  /** Number of the generation (a membership of the slice) in which the frame was sent. */
  generation: number;
  /** Index of the all-reduce, from 0, since the generation began. */
  collective: number;
  /** Index of the frame, from 0, among the frames that its all-reduce sends through this queue. */
  sequence: number;
  /**
   * CRC-32 of the payload; {@link unknownCrc} if nothing has computed it yet. Two places compute
   * it: a link that checks a received payload, and a chip that sums a payload. When the payload is
   * sent on, a known CRC is not computed again.
   */
  crc: number;
}

/** Value of `Frame.crc` if the CRC-32 of the payload has not been computed. */
export const unknownCrc = -1;

/** Returns a frame with placeholder values, for {@link InLink.peek} to fill in. */
export function emptyFrame(): Frame {
  return { address: 0, bytes: 0, generation: 0, collective: 0, sequence: 0, crc: unknownCrc };
}

/**
 * Access to the ends of the directed links. `link` is the link number, chip · 4 + direction.
 * `colour`, 0 or 1, selects one of the two queues of the link: the queue for the lanes that start
 * on axis X (0) or on axis Y (1).
 */
export interface Links {
  out(link: number, colour: number): OutLink;
  in(link: number, colour: number): InLink;
}
