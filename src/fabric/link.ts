import type { FrameCrc } from './kernels/crc.ts';

/**
 * Sending end of one queue of a directed link. A link has two queues of limited length, because two
 * lanes share the link: one lane is summed first along X, the other first along Y. With a queue
 * each, the two lanes never block each other.
 *
 * A frame is a range of the sender's memory. Nothing is copied when a frame is sent, so the sender
 * must not write to the range until the receiver has released the frame. No method of an `OutLink`
 * or an {@link InLink} waits.
 */
export interface OutLink {
  /** Computes the CRC-32 of payloads; undefined if the frames of this link carry no CRC. */
  readonly crc: FrameCrc | undefined;
  /** True if the queue has room for another frame. */
  hasRoom(): boolean;
  /** Puts a frame into the queue. The caller must have checked {@link hasRoom}. */
  send(frame: Readonly<Frame>): void;
  /**
   * True if the receiver has released at least `count` frames since the link was created. Counts
   * are taken modulo 2^32.
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
   * waits for, and `frame.address` is where the receiver wants its payload. A link that copies
   * payloads may copy this payload directly to `frame.address`. {@link peek} then returns this
   * address. A link that does not copy payloads ignores the call.
   */
  expect(frame: Readonly<Frame>): void;
}

/**
 * A payload with the numbers that identify it. By these numbers, the receiver detects that a frame
 * is missing, repeated or late.
 */
export interface Frame {
  /** Byte address of the payload in the emulator's memory. */
  address: number;
  /** Length of the payload in bytes, a multiple of 4. */
  bytes: number;
  /**
   * Number of the generation in which the frame was sent. In one generation, the same workers form
   * the slice.
   */
  generation: number;
  /** Index of the all-reduce, from 0, since the generation began. */
  collective: number;
  /** Index of the frame, from 0, among the frames that its all-reduce sends through this queue. */
  sequence: number;
  /**
   * CRC-32 of the payload, or {@link unknownCrc} while nothing has computed it. A link computes it
   * when it checks a received payload. A chip computes it when it adds a payload to its own
   * elements. When the payload is sent on, a known CRC is not computed again.
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
 * Access to the ends of the directed links. `link` is the number of the link: 4 · (number of the
 * chip that it leaves) + direction. `colour` selects one of the two queues of the link: 0 for the
 * lane that is summed first along X, 1 for the lane that is summed first along Y.
 */
export interface Links {
  out(link: number, colour: number): OutLink;
  in(link: number, colour: number): InLink;
}
