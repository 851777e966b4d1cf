import { assert } from '../numerics/assert.ts';
import type { Doorbell } from './doorbell.ts';
import type { FabricLayout } from './fabric-memory.ts';
import {
  frameOffset,
  queueAddress,
  queueDepth,
  queueWords,
  slotStride,
  slotsOffset,
} from './fabric-memory.ts';
import type { InLink, Links, OutLink } from './link.ts';
import type { Direction, Torus } from './torus.ts';
import { neighbour, placement } from './torus.ts';

/** One queue in the shared memory, and the worker at its other end. */
export interface MemoryLinkEnd {
  readonly memory: WebAssembly.Memory;
  readonly layout: FabricLayout;
  readonly link: number;
  readonly colour: number;
  readonly doorbell: Doorbell;
  readonly peer: number;
}

/**
 * Sending end. Head and tail count frames modulo 2^32; each is written by one end only, and each
 * end keeps the other's count as it last saw it, so that a look at the shared word is rare.
 */
export class MemoryOutLink implements OutLink {
  readonly maxBytes: number;
  readonly #words: Int32Array;
  readonly #queue: number;
  readonly #slots: number;
  readonly #stride: number;
  readonly #doorbell: Doorbell;
  readonly #peer: number;
  #head = 0;
  #tail = 0;
  #slot = 0;
  #bytes = 0;

  constructor({ memory, layout, link, colour, doorbell, peer }: MemoryLinkEnd) {
    this.maxBytes = layout.slotBytes;
    this.#words = new Int32Array(memory.buffer);
    this.#queue = queueAddress(layout, link, colour) / 4;
    this.#slots = queueAddress(layout, link, colour) + slotsOffset + frameOffset;
    this.#stride = slotStride(layout.slotBytes);
    this.#doorbell = doorbell;
    this.#peer = peer;
    this.#head = Atomics.load(this.#words, this.#queue + queueWords.head);
    this.#tail = Atomics.load(this.#words, this.#queue + queueWords.tail);
    assert(this.#head === 0 && this.#tail === 0, `link ${link}: a queue that was not reset`);
  }

  reserve(bytes: number): number {
    if (((this.#head - this.#tail) | 0) === queueDepth) {
      this.#tail = Atomics.load(this.#words, this.#queue + queueWords.tail);
      if (((this.#head - this.#tail) | 0) === queueDepth) return 0;
    }
    this.#bytes = bytes;
    return this.#slots + this.#slot * this.#stride;
  }

  commit(): void {
    this.#count();
    const sent = this.#head;
    this.#slot = this.#slot + 1 === queueDepth ? 0 : this.#slot + 1;
    this.#head = (sent + 1) | 0;
    Atomics.store(this.#words, this.#queue + queueWords.head, this.#head);
    // A receiver that sleeps for want of this queue had emptied it.
    this.#tail = Atomics.load(this.#words, this.#queue + queueWords.tail);
    if (this.#tail === sent) this.#doorbell.mark(this.#peer);
  }

  #count(): void {
    const word = this.#queue + queueWords.sentBytes;
    const before = (this.#words[word] ?? 0) >>> 0;
    const after = (before + this.#bytes) >>> 0;
    this.#words[word] = after;
    if (after < before) this.#words[word + 1] = (this.#words[word + 1] ?? 0) + 1;
  }
}

/** Receiving end. */
export class MemoryInLink implements InLink {
  readonly #words: Int32Array;
  readonly #queue: number;
  readonly #slots: number;
  readonly #stride: number;
  readonly #doorbell: Doorbell;
  readonly #peer: number;
  #head = 0;
  #tail = 0;
  #slot = 0;

  constructor({ memory, layout, link, colour, doorbell, peer }: MemoryLinkEnd) {
    this.#words = new Int32Array(memory.buffer);
    this.#queue = queueAddress(layout, link, colour) / 4;
    this.#slots = queueAddress(layout, link, colour) + slotsOffset + frameOffset;
    this.#stride = slotStride(layout.slotBytes);
    this.#doorbell = doorbell;
    this.#peer = peer;
  }

  peek(): number {
    if (this.#head === this.#tail) {
      this.#head = Atomics.load(this.#words, this.#queue + queueWords.head);
      if (this.#head === this.#tail) return 0;
    }
    return this.#slots + this.#slot * this.#stride;
  }

  release(): void {
    const taken = this.#tail;
    this.#slot = this.#slot + 1 === queueDepth ? 0 : this.#slot + 1;
    this.#tail = (taken + 1) | 0;
    Atomics.store(this.#words, this.#queue + queueWords.tail, this.#tail);
    // A sender that sleeps for want of room had filled the queue.
    this.#head = Atomics.load(this.#words, this.#queue + queueWords.head);
    if (((this.#head - taken) | 0) === queueDepth) this.#doorbell.mark(this.#peer);
  }
}

/** The ends of a slice's links that belong to one worker, all in the shared memory. */
export function memoryLinks(
  memory: WebAssembly.Memory,
  layout: FabricLayout,
  torus: Torus,
  doorbell: Doorbell,
): Links {
  const end = (link: number, colour: number, peerChip: number): MemoryLinkEnd => {
    const peer = placement(torus, peerChip).worker;
    return { memory, layout, link, colour, doorbell, peer };
  };
  return {
    out: (link, colour) => {
      const to = neighbour(torus, link >> 2, (link & 3) as Direction);
      return new MemoryOutLink(end(link, colour, to));
    },
    in: (link, colour) => new MemoryInLink(end(link, colour, link >> 2)),
  };
}
