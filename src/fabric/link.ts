/**
 * A directed link as its two ends see it: a bounded queue of frames that lie in the emulator's
 * memory. The sender sums straight into a frame, the receiver straight out of it. Nothing waits
 * here: a full or empty queue answers 0. There is one queue for each (link, colour), so that the
 * two lanes that share a link never block one another.
 */
export interface OutLink {
  /**
   * Byte address of the next frame, for a payload of `bytes` (a multiple of 4, at most the queue's
   * {@link maxBytes}), or 0 while the queue is full. Asking again before {@link commit} gives the
   * same frame.
   */
  reserve(bytes: number): number;
  /** Sends the reserved frame. */
  commit(): void;
  /** The largest payload, a multiple of 16. */
  readonly maxBytes: number;
}

export interface InLink {
  /** Byte address of the oldest frame, or 0 while there is none. */
  peek(): number;
  /** Gives the peeked frame back. */
  release(): void;
}

/** Gives the end of a directed link (chip · 4 + direction) for one colour. */
export interface Links {
  out(link: number, colour: number): OutLink;
  in(link: number, colour: number): InLink;
}

/** A frame starts with a header of four u32, then its payload. Payloads are 64-aligned. */
export const frameHeaderBytes = 16;

/** What a frame carries, so that a lost, repeated or late one is noticed by its receiver. */
export interface FrameHeader {
  /** Membership in which it was sent. */
  readonly epoch: number;
  /** Number of the all-reduce since the epoch began. */
  readonly collective: number;
  /** Number of the frame among those of its all-reduce and queue. */
  readonly sequence: number;
  /** Of the payload. */
  readonly bytes: number;
}

/** Writes the header of the frame at byte address `frame`. */
export function writeHeader(
  words: Uint32Array,
  frame: number,
  epoch: number,
  collective: number,
  sequence: number,
  bytes: number,
): void {
  const word = frame >>> 2;
  words[word] = epoch;
  words[word + 1] = collective;
  words[word + 2] = sequence;
  words[word + 3] = bytes;
}

/** Whether the frame at byte address `frame` is the expected one. */
export function headerIs(
  words: Uint32Array,
  frame: number,
  epoch: number,
  collective: number,
  sequence: number,
  bytes: number,
): boolean {
  const word = frame >>> 2;
  return (
    words[word] === epoch &&
    words[word + 1] === collective &&
    words[word + 2] === sequence &&
    words[word + 3] === bytes
  );
}

/** The header of the frame at byte address `frame`, for reports. */
export function readHeader(words: Uint32Array, frame: number): FrameHeader {
  const [epoch = 0, collective = 0, sequence = 0, bytes = 0] = words.subarray(
    frame >>> 2,
    (frame >>> 2) + 4,
  );
  return { epoch, collective, sequence, bytes };
}
