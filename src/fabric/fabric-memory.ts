import { assert } from '../numerics/assert.ts';
import type { Torus } from './torus.ts';
import { linkCount } from './torus.ts';

/**
 * Size of a line, in bytes. This layout divides the memory into lines, each at least as large as a
 * cache line of the processor. Words that different threads write are in different lines. If they
 * shared a cache line, the threads would slow each other down.
 */
const lineBytes = 128;

/**
 * Capacity of a queue, in frames. A capacity of two frames is enough to prevent a deadlock in a
 * ring of chips. With more, a chip can send frames before its neighbour needs them. Then workers
 * sleep less often, and need to be woken less often.
 */
export const queueDepth = 16;
const coloursPerLink = 2;

/**
 * Places of the queues and doorbells of a slice in the shared memory. `base`, `control` and
 * `queues` are byte addresses.
 */
export interface FabricLayout {
  readonly base: number;
  /** Bytes of the whole layout, from `base` on. */
  readonly bytes: number;
  /**
   * Byte address of the control lines, of 128 bytes each. The first line is shared by all workers;
   * it says whether the master has ended all waits. After it, each worker has one line with its
   * bell and its counters.
   */
  readonly control: number;
  readonly workers: number;
  /**
   * Byte address of the first queue. A link has two queues, one for each colour of lanes. The
   * colour of a lane, 0 or 1, says along which axis of the torus the lane is summed first. The
   * index of a queue is 2 · (number of the link) + colour.
   */
  readonly queues: number;
  readonly queueCount: number;
}

/** Offsets, in 32-bit words, in an entry of a queue. An entry describes one frame. */
export const entryWords: {
  readonly address: 0;
  readonly bytes: 1;
  readonly generation: 2;
  readonly collective: 3;
  readonly sequence: 4;
  readonly crc: 5;
  readonly hasCrc: 6;
} = { address: 0, bytes: 1, generation: 2, collective: 3, sequence: 4, crc: 5, hasCrc: 6 };
/** Number of words from one entry to the next. */
export const entryStride = 8;

/**
 * Offsets in a queue, in 32-bit words. A queue has three parts:
 *
 * 1. A line that the sender writes. `head`: the number of frames sent. `wanted`: the number of
 *    released frames at which the receiver must wake the sender. `bytesLow` and `bytesHigh`: the
 *    two halves of a 64-bit number, which counts the payload bytes sent.
 * 2. A line that the receiver writes. `tail`: the number of frames released.
 * 3. `entries`: the descriptions of the frames. The sender writes them.
 */
export const queueWords: {
  readonly head: 0;
  readonly wanted: 1;
  readonly bytesLow: 2;
  readonly bytesHigh: 3;
  readonly tail: 32;
  readonly entries: 64;
} = { head: 0, wanted: 1, bytesLow: 2, bytesHigh: 3, tail: 32, entries: 64 };
const queueBytes: number = 4 * (queueWords.entries + queueDepth * entryStride);

/** Lays out the queues and doorbells of a slice from byte address `base` on, a multiple of 128. */
export function layOutFabric(torus: Torus, base: number): FabricLayout {
  assert(base > 0 && base % lineBytes === 0, `fabric memory at ${base}`);
  const queueCount = linkCount(torus) * coloursPerLink;
  const controlBytes = (1 + torus.workers) * lineBytes;
  return {
    base,
    bytes: controlBytes + queueCount * queueBytes,
    control: base,
    workers: torus.workers,
    queues: base + controlBytes,
    queueCount,
  };
}

/**
 * Byte address of the line that all workers share. Its first word is 1 if the master has ended all
 * waits.
 */
export function sharedLine(layout: FabricLayout): number {
  return layout.control;
}

/** Byte address of the line with a worker's bell and counters (see doorbell.ts). */
export function workerLine(layout: FabricLayout, worker: number): number {
  return layout.control + (1 + worker) * lineBytes;
}

export function queueAddress(layout: FabricLayout, link: number, colour: number): number {
  return layout.queues + (link * coloursPerLink + colour) * queueBytes;
}

/**
 * Empties every queue, sets the byte counts to 0, and removes the mark that the master has ended
 * all waits. Must run before the workers of a generation start.
 */
export function resetFabric(memory: WebAssembly.Memory, layout: FabricLayout): void {
  const words = new Int32Array(memory.buffer, layout.base, layout.bytes / 4);
  // A word that is 0 already is not written. A process uses few of the slice's queues, so most of
  // the memory is then never written. The operating system need not provide memory that is never
  // written.
  for (let word = 0; word < words.length; word++) if (words[word] !== 0) words[word] = 0;
}

/**
 * Returns the payload bytes sent over each directed link since the last {@link resetFabric},
 * indexed by link number. Must be called only while no worker sends.
 */
export function sentBytes(memory: WebAssembly.Memory, layout: FabricLayout): Float64Array {
  const words = new Uint32Array(memory.buffer);
  const counts = new Float64Array(layout.queueCount / coloursPerLink);
  for (let queue = 0; queue < layout.queueCount; queue++) {
    const word = (layout.queues + queue * queueBytes) / 4;
    const low = words[word + queueWords.bytesLow] ?? 0;
    const high = words[word + queueWords.bytesHigh] ?? 0;
    const link = Math.floor(queue / coloursPerLink);
    counts[link] = (counts[link] ?? 0) + low + high * 2 ** 32;
  }
  return counts;
}
