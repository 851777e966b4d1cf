import { queueDepth } from '../../src/fabric/fabric-memory.ts';
import type { Frame, InLink, OutLink } from '../../src/fabric/link.ts';
import { copyFrame, FrameRing } from '../net/socket-link.ts';

/**
 * Both ends of a queue from a simulated Cloud TPU, which has one chip, to itself. Frames arrive at
 * once. Their payloads are not copied. Counts of frames are modulo 2^32.
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
    // The receiver announces the address at which it expects the next payload. Here it has no use:
    // the receiver reads payloads where the sender has them.
  }
}
