import { emptyHeader, encodeFrame, frameKinds } from './frame.ts';
import type { FrameSizes, SegmentPlace } from './route.ts';
import { segmentSlot } from './route.ts';
import { makeSegment, mapSegment, unmapSegment } from './segment.ts';

/** Common part of both ends of a segment: a range of the memory, with slots for each queue. */
class SegmentEnd {
  readonly #place: SegmentPlace;
  readonly #sizes: FrameSizes;
  protected readonly range: Uint8Array;

  constructor(memory: Buffer, place: SegmentPlace, sizes: FrameSizes) {
    this.#place = place;
    this.#sizes = sizes;
    this.range = memory.subarray(place.address, place.address + place.bytes);
  }

  /** Returns the byte address of the payload of frame number `count` of a queue. */
  slot(queue: number, count: number): number {
    return segmentSlot(this.#place, this.#sizes, queue, count);
  }
}

/**
 * Sending end of a segment. The receiver reads payloads from the segment without a system call.
 * Only headers go through the socket; each header says that a payload is ready.
 */
export class OutSegment extends SegmentEnd {
  /** Function that ends the present offer; undefined if no offer is open. */
  #close: (() => void) | undefined;
  #isMapped = false;

  /** True if the peer has mapped the segment, so that payloads may go through the segment. */
  get isMapped(): boolean {
    return this.#isMapped;
  }

  /**
   * Makes a new segment. Returns the frame that offers the segment to the peer, or the reason if
   * the segment cannot be made.
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
   * segment. Returns false if no offer is open.
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

  /** Ends the offer and unmaps the segment. */
  close(): void {
    if (this.#close || this.#isMapped) unmapSegment(this.range);
    this.#close?.();
    this.#close = undefined;
    this.#isMapped = false;
  }
}

/** Receiving end of a segment. The receiver maps the segment for reading only. */
export class InSegment extends SegmentEnd {
  #isMapped = false;

  /** True if this end has mapped the segment, so that payloads may lie in the segment. */
  get isMapped(): boolean {
    return this.#isMapped;
  }

  /** Maps the offered segment. Returns undefined, or the reason if the segment cannot be mapped. */
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
