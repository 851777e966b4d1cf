import { queueDepth } from '../../src/fabric/fabric-memory.ts';
import type { Frame, InLink, OutLink } from '../../src/fabric/link.ts';
import { copyFrame, FrameRing } from '../net/socket-link.ts';

/**
 * Queue of frames that a simulated Cloud TPU, which has one chip, sends to itself. The class
 * implements both ends of the queue. A frame arrives at once, and its payload is not copied. The
 * number of frames that the receiver has taken is counted modulo 2^32.
 */
export class LocalLink implements OutLink, InLink {
  readonly crc: undefined;
  readonly #frames: FrameRing = new FrameRing();

  hasRoom(): boolean {
    return this.#frames.length < queueDepth;
  }

  send(frame: Readonly<Frame>): void {
    this.#frames.put(frame);
  }

  isReleased(count: number): boolean {
    return ((this.#frames.taken - count) | 0) >= 0;
  }

  isEmpty(): boolean {
    return this.#frames.length === 0;
  }

  peek(frame: Frame): boolean {
    if (this.isEmpty()) return false;
    copyFrame(this.#frames.oldest, frame);
    return true;
  }

  release(): void {
    this.#frames.take();
  }

  expect(): void {
    // Nothing to do. By this call the receiver announces the address at which it expects the next
    // payload. In this queue, the receiver instead reads each payload where the sender has it.
  }
}
