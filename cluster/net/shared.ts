import { emptyHeader, encodeFrame, frameKinds } from './frame.ts';
import type { FrameSizes, SegmentPlace } from './route.ts';
import { segmentSlot } from './route.ts';
import { makeSegment, mapSegment, unmapSegment } from './segment.ts';

/**
 * Base class of both ends of a segment. A segment is memory that this process shares with one peer
 * on this host, divided into slots for payloads.
 */
class SegmentEnd {
  readonly #place: SegmentPlace;
  readonly #sizes: FrameSizes;
  protected readonly range: Uint8Array;

  constructor(memory: Buffer, place: SegmentPlace, sizes: FrameSizes) {
    this.#place = place;
    this.#sizes = sizes;
    this.range = memory.subarray(place.address, place.address + place.bytes);
  }

  /**
   * Returns the byte address of the slot for the payload of one frame. `queue` is the index of the
   * queue that carries the frame. `count` is how many frames (modulo 2^32) that queue carried
   * before this frame.
   */
  slot(queue: number, count: number): number {
    return segmentSlot(this.#place, this.#sizes, queue, count);
  }
}

/**
 * Sending end of a segment (memory shared with one peer). This end writes payloads into the
 * segment, and the peer reads them without a system call. For each payload a header goes through
 * the socket and tells the peer that the payload is ready.
 */
export class OutSegment extends SegmentEnd {
  /**
   * Function that ends the current offer of the segment. Undefined if no offer waits for an answer.
   */
  #close: (() => void) | undefined;
  #isMapped = false;

  /** True if the peer has mapped the segment, so that payloads may go through the segment. */
  get isMapped(): boolean {
    return this.#isMapped;
  }

  /**
   * Makes a new segment. Returns the frame that offers the segment to the peer, or the reason in
   * one line if the segment cannot be made. An earlier segment is unmapped first.
   */
  offer(generation: number): Buffer | string {
    this.close();
    const made = makeSegment(this.range);
    if (typeof made === 'string') return made;
    this.#close = made.close;
    return encodeFrame({ ...emptyHeader(), kind: frameKinds.segment, generation }, made.offer);
  }

  /**
   * Handles the answer of the peer to the offer. `isMapped` is true if the peer has mapped the
   * segment; otherwise the segment is unmapped here too. Returns false if no offer waits for an
   * answer.
   */
  answered(isMapped: boolean): boolean {
    if (this.#close === undefined) return false;
    if (isMapped) {
      this.#close();
      this.#close = undefined;
      this.#isMapped = true;
    } else this.close();
    return true;
  }

  /** Ends the offer if it waits for an answer, and unmaps the segment if it is mapped. */
  close(): void {
    if (this.#close || this.#isMapped) unmapSegment(this.range);
    this.#close?.();
    this.#close = undefined;
    this.#isMapped = false;
  }
}

/**
 * Receiving end of a segment (memory shared with one peer). This end maps the segment for reading
 * only.
 */
export class InSegment extends SegmentEnd {
  #isMapped = false;

  /** True if this end has mapped the segment, so that payloads may lie in the segment. */
  get isMapped(): boolean {
    return this.#isMapped;
  }

  /**
   * Maps the segment that the peer offers. Returns undefined if the segment is mapped, otherwise
   * the reason in one line.
   */
  take(offer: Uint8Array): string | undefined {
    const refused = mapSegment(offer, this.range);
    this.#isMapped = refused === undefined;
    return refused;
  }

  close(): void {
    if (this.#isMapped) unmapSegment(this.range);
    this.#isMapped = false;
  }
}

/** Encodes the frame with which a receiver answers the offer of a segment. */
export function answerFrame(generation: number, isMapped: boolean): Buffer {
  const header = { ...emptyHeader(), kind: frameKinds.mapped, generation };
  return encodeFrame({ ...header, sequence: isMapped ? 1 : 0 });
}
