import type { FrameCrc } from './kernels/crc.ts';

/**
 * A directed link as its two ends see it: a bounded queue of frames. A frame is a range of the
 * sender's memory: nothing is copied to be sent, so the sender leaves the range alone until the
 * receiver has released it. Nothing waits here. There is one queue for each (link, colour), so
 * that the two lanes that share a link never block one another.
 */
export interface OutLink {
  /** What works out the CRC-32 of a payload, where frames have one. */
  readonly crc: FrameCrc | undefined;
  /** Whether there is room for another frame. */
  hasRoom(): boolean;
  /** Sends a frame; there must be room. */
  send(frame: Readonly<Frame>): void;
  /** Whether the first `count` frames (modulo 2^32) ever sent have been released. */
  isReleased(count: number): boolean;
}

export interface InLink {
  /** Whether there is no frame; asked again and again. */
  isEmpty(): boolean;
  /** Puts the oldest frame into `frame`; false while there is none. */
  peek(frame: Frame): boolean;
  /** Gives the peeked frame back. */
  release(): void;
  /**
   * Says which frame comes next, while there is none, and where its payload is wanted. A link that
   * copies may put it there at once: then it is peeked with that address.
   */
  expect(frame: Readonly<Frame>): void;
}

/** A payload and what it is, so that a lost, repeated or late frame is noticed by its receiver. */
export interface Frame {
  /** Byte address of the payload in the emulator's memory. */
  address: number;
  /** Bytes of the payload; a multiple of 4. */
  bytes: number;
  /** Membership in which it was sent. */
  generation: number;
  /** Number of the all-reduce since the generation began. */
  collective: number;
  /** Number of the frame among those of its all-reduce and queue. */
  sequence: number;
  /**
   * CRC-32 of the payload where a link has checked it, or a chip has worked it out while it made the
   * payload, so that none is worked out again; {@link unknownCrc} otherwise.
   */
  crc: number;
}

export const unknownCrc = -1;

/** A frame to be filled in. */
export function emptyFrame(): Frame {
  return { address: 0, bytes: 0, generation: 0, collective: 0, sequence: 0, crc: unknownCrc };
}

/** Gives the end of a directed link (chip · 4 + direction) for one colour. */
export interface Links {
  out(link: number, colour: number): OutLink;
  in(link: number, colour: number): InLink;
}
