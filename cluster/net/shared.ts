import { emptyHeader, encodeFrame, frameKinds } from './frame.ts';
import type { FrameSizes, SegmentPlace } from './route.ts';
import { segmentSlot } from './route.ts';
import { makeSegment, mapSegment, unmapSegment } from './segment.ts';

/** What both ends of a segment have: a range of the memory, with slots by queue. */
class SegmentEnd {
  readonly #place: SegmentPlace;
  readonly #sizes: FrameSizes;
  protected readonly range: Uint8Array;

  constructor(memory: Buffer, place: SegmentPlace, sizes: FrameSizes) {
    this.#place = place;
    this.#sizes = sizes;
    this.range = memory.subarray(place.address, place.address + place.bytes);
  }

  /** Byte address where the payload of frame `count` of a queue lies. */
  slot(queue: number, count: number): number {
    return segmentSlot(this.#place, this.#sizes, queue, count);
  }
}

/**
 * The sender's end of a segment. What it writes there the receiver finds without a system call: only
 * headers go through the socket, and say that a payload lies ready.
 */
export class OutSegment extends SegmentEnd {
  /** Ends the offer, while there is one. */
  #close: (() => void) | undefined;
  #isMapped = false;

  /** Whether payloads may go this way. */
  get isMapped(): boolean {
    return this.#isMapped;
  }

  /** Makes it anew, and gives the frame that offers it; or says why it cannot be. */
  offer(generation: number): Buffer | string {
    this.close();
    const made = makeSegment(this.range);
    if (typeof made === 'string') return made;
    this.#close = made.close;
    return encodeFrame({ ...emptyHeader(), kind: frameKinds.segment, generation }, made.offer);
  }

  /** The other end has it, or cannot. False when it was not asked. */
  answered(isMapped: boolean): boolean {
    if (this.#close === undefined) return false;
    if (isMapped) {
      this.#close();
      this.#close = undefined;
      this.#isMapped = true;
    } else this.close();
    return true;
  }

  /** Gives its memory back. */
  close(): void {
    if (this.#close || this.#isMapped) unmapSegment(this.range);
    this.#close?.();
    this.#close = undefined;
    this.#isMapped = false;
  }
}

/** The receiver's end of a segment, which only reads it. */
export class InSegment extends SegmentEnd {
  #isMapped = false;

  /** Whether payloads may lie there. */
  get isMapped(): boolean {
    return this.#isMapped;
  }

  /** Maps what is offered; or says why it cannot be. */
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

/** What a receiver answers to an offer. */
export function answerFrame(generation: number, isMapped: boolean): Buffer {
  const header = { ...emptyHeader(), kind: frameKinds.mapped, generation };
  return encodeFrame({ ...header, sequence: isMapped ? 1 : 0 });
}
