import { assert } from '../numerics/assert.ts';
import type { Doorbell } from './doorbell.ts';
import type { FabricLayout } from './fabric-memory.ts';
import { entryStride, entryWords, queueAddress, queueDepth, queueWords } from './fabric-memory.ts';
import type { Frame, InLink, Links, OutLink } from './link.ts';
import { unknownCrc } from './link.ts';
import type { Direction, Torus } from './torus.ts';
import { neighbour, placement } from './torus.ts';

/** One end of a queue in the shared memory. `peer` is the number of the worker at the other end. */
export interface MemoryLinkEnd {
  readonly memory: WebAssembly.Memory;
  readonly layout: FabricLayout;
  readonly link: number;
  readonly colour: number;
  readonly doorbell: Doorbell;
  readonly peer: number;
}

/** Returns access to the link ends of one worker. All queues lie in the shared memory. */
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

/**
 * Sending end of a queue in the shared memory. Two words of the queue count frames, modulo 2^32:
 * `head` the frames sent, and `tail` the frames released. Only the sender writes `head`, and only
 * the receiver writes `tail`. Each end keeps its own count, and a copy of the other end's count as
 * it read it last.
 */
export class MemoryOutLink implements OutLink {
  readonly crc: undefined;
  readonly #words: Int32Array;
  /** Index, in `#words`, of the queue's first word. */
  readonly #queue: number;
  readonly #doorbell: Doorbell;
  readonly #peer: number;
  #head = 0;
  #tail = 0;
  #wanted = 0;
  #slot = 0;

  constructor({ memory, layout, link, colour, doorbell, peer }: MemoryLinkEnd) {
    this.#words = new Int32Array(memory.buffer);
    this.#queue = queueAddress(layout, link, colour) / 4;
    this.#doorbell = doorbell;
    this.#peer = peer;
    const head = Atomics.load(this.#words, this.#queue + queueWords.head);
    assert(head === 0, `link ${link}: a queue that was not reset`);
  }

  hasRoom(): boolean {
    return this.isReleased((this.#head - queueDepth + 1) | 0);
  }

  isReleased(count: number): boolean {
    return ((this.#tail - count) | 0) >= 0 || this.#look(count);
  }

  send({ address, bytes, generation, collective, sequence, crc }: Readonly<Frame>): void {
    const words = this.#words;
    const entry = this.#queue + queueWords.entries + this.#slot * entryStride;
    words[entry + entryWords.address] = address;
    words[entry + entryWords.bytes] = bytes;
    words[entry + entryWords.generation] = generation;
    words[entry + entryWords.collective] = collective;
    words[entry + entryWords.sequence] = sequence;
    words[entry + entryWords.crc] = crc;
    words[entry + entryWords.hasCrc] = crc === unknownCrc ? 0 : 1;
    this.#count(bytes);
    const sent = this.#head;
    this.#slot = this.#slot + 1 === queueDepth ? 0 : this.#slot + 1;
    this.#head = (sent + 1) | 0;
    Atomics.store(words, this.#queue + queueWords.head, this.#head);
    // The receiver waits for a frame of this queue only while the queue is empty. If it has not
    // released all earlier frames, the queue is not empty, and this frame need not wake it.
    this.#tail = Atomics.load(words, this.#queue + queueWords.tail);
    if (this.#tail === sent) this.#doorbell.mark(this.#peer);
  }

  /**
   * Returns true if at least `count` frames have been released. Otherwise asks the receiver to wake
   * this worker when `count` frames have been released, and returns false. No new request is made
   * while an earlier request for fewer frames is pending, because it wakes this worker even sooner.
   */
  #look(count: number): boolean {
    const { tail, wanted } = queueWords;
    this.#tail = Atomics.load(this.#words, this.#queue + tail);
    if (((this.#tail - count) | 0) >= 0) return true;
    const isAsking = ((this.#wanted - this.#tail) | 0) > 0;
    if (isAsking && ((this.#wanted - count) | 0) <= 0) return false;
    this.#wanted = count;
    Atomics.store(this.#words, this.#queue + wanted, count);
    this.#tail = Atomics.load(this.#words, this.#queue + tail);
    return ((this.#tail - count) | 0) >= 0;
  }

  #count(bytes: number): void {
    const low = this.#queue + queueWords.bytesLow;
    const high = this.#queue + queueWords.bytesHigh;
    const before = (this.#words[low] ?? 0) >>> 0;
    const after = (before + bytes) >>> 0;
    this.#words[low] = after;
    if (after < before) this.#words[high] = (this.#words[high] ?? 0) + 1;
  }
}

/** Receiving end of a queue in the shared memory. */
export class MemoryInLink implements InLink {
  readonly #words: Int32Array;
  readonly #queue: number;
  readonly #doorbell: Doorbell;
  readonly #peer: number;
  #head = 0;
  #tail = 0;
  #slot = 0;

  constructor({ memory, layout, link, colour, doorbell, peer }: MemoryLinkEnd) {
    this.#words = new Int32Array(memory.buffer);
    this.#queue = queueAddress(layout, link, colour) / 4;
    this.#doorbell = doorbell;
    this.#peer = peer;
  }

  isEmpty(): boolean {
    if (this.#head !== this.#tail) return false;
    this.#head = Atomics.load(this.#words, this.#queue + queueWords.head);
    return this.#head === this.#tail;
  }

  peek(frame: Frame): boolean {
    if (this.isEmpty()) return false;
    const words = this.#words;
    const entry = this.#queue + queueWords.entries + this.#slot * entryStride;
    frame.address = (words[entry + entryWords.address] ?? 0) >>> 0;
    frame.bytes = (words[entry + entryWords.bytes] ?? 0) >>> 0;
    frame.generation = (words[entry + entryWords.generation] ?? 0) >>> 0;
    frame.collective = (words[entry + entryWords.collective] ?? 0) >>> 0;
    frame.sequence = (words[entry + entryWords.sequence] ?? 0) >>> 0;
    const hasCrc = words[entry + entryWords.hasCrc] === 1;
    frame.crc = hasCrc ? (words[entry + entryWords.crc] ?? 0) >>> 0 : unknownCrc;
    return true;
  }

  release(): void {
    this.#slot = this.#slot + 1 === queueDepth ? 0 : this.#slot + 1;
    this.#tail = (this.#tail + 1) | 0;
    Atomics.store(this.#words, this.#queue + queueWords.tail, this.#tail);
    const wanted = Atomics.load(this.#words, this.#queue + queueWords.wanted);
    if (wanted === this.#tail) this.#doorbell.mark(this.#peer);
  }

  /**
   * Does nothing. The receiver reads each payload in the sender's range, so no payload is copied.
   */
  expect(): void {}
}
