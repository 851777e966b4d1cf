import { queueDepth } from '../../src/fabric/fabric-memory.ts';
import { emptyFrame, type Frame, type InLink, type OutLink } from '../../src/fabric/link.ts';

/**
 * Both ends of a queue from a simulated Cloud TPU, which has one chip, to itself. Frames arrive at
 * once. Their payloads are not copied. Counts of frames are modulo 2^32.
 */
export class LocalLink implements OutLink, InLink {
  readonly crc: undefined;
  readonly #frames: readonly Frame[] = Array.from({ length: queueDepth }, emptyFrame);
  #head = 0;
  #tail = 0;

  hasRoom(): boolean {
    return this.#head - this.#tail < queueDepth;
  }

  send(frame: Readonly<Frame>): void {
    Object.assign(this.#slot(this.#head), frame);
    this.#head++;
  }

  isReleased(count: number): boolean {
    return ((this.#tail - count) | 0) >= 0;
  }

  isEmpty(): boolean {
    return this.#head === this.#tail;
  }

  peek(frame: Frame): boolean {
    if (this.isEmpty()) return false;
    Object.assign(frame, this.#slot(this.#tail));
    return true;
  }

  release(): void {
    this.#tail++;
  }

  expect(): void {
    // The receiver announces the address at which it expects the next payload. Here it has no use:
    // the receiver reads payloads where the sender has them.
  }

  #slot(count: number): Frame {
    return this.#frames[count % queueDepth]!;
  }
}
