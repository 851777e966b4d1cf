import { assert } from '../numerics/assert.ts';
import type { Torus } from './torus.ts';
import { linkCount } from './torus.ts';

/** Bytes that processors move between them as one: words of different writers lie this far apart. */
const lineBytes = 128;

/**
 * Frames in a queue. Two are the fewest with which a ring cannot block itself; more let a chip run
 * ahead of its neighbours, so that workers wake each other less often.
 */
export const queueDepth = 16;
const coloursPerLink = 2;

/** Where a slice's links and doorbells lie in the shared memory. Bytes and byte addresses. */
export interface FabricLayout {
  readonly base: number;
  /** Bytes of everything below. */
  readonly bytes: number;
  /** One line for all, then one for each worker: see doorbell.ts. */
  readonly control: number;
  readonly workers: number;
  /** Queue number = link · 2 + colour. */
  readonly queues: number;
  readonly queueCount: number;
}

/** Words of an entry of a queue: a frame. */
export const entryWords: {
  readonly address: 0;
  readonly bytes: 1;
  readonly generation: 2;
  readonly collective: 3;
  readonly sequence: 4;
  readonly crc: 5;
  readonly hasCrc: 6;
} = { address: 0, bytes: 1, generation: 2, collective: 3, sequence: 4, crc: 5, hasCrc: 6 };
/** Words from one entry to the next. */
export const entryStride = 8;

/**
 * Words of a queue: a line that the sender writes (frames sent; the count of released ones at
 * which it wants to be woken; payload bytes sent, low and high), a line that the receiver writes
 * (frames released), then the entries, written by the sender.
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

/** Lays the queues and doorbells of a slice out from `base` (128-aligned) on. */
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

/** Byte address of the line that all workers share. */
export function sharedLine(layout: FabricLayout): number {
  return layout.control;
}

/** Byte address of a worker's line. */
export function workerLine(layout: FabricLayout, worker: number): number {
  return layout.control + (1 + worker) * lineBytes;
}

export function queueAddress(layout: FabricLayout, link: number, colour: number): number {
  return layout.queues + (link * coloursPerLink + colour) * queueBytes;
}

/**
 * Empties every queue and takes back an abort, before the workers of an generation start. Counted bytes
 * start from 0.
 */
export function resetFabric(memory: WebAssembly.Memory, layout: FabricLayout): void {
  const words = new Int32Array(memory.buffer, layout.base, layout.bytes / 4);
  // What was never written is not written now: a process uses few of the slice's queues.
  for (let word = 0; word < words.length; word++) if (words[word] !== 0) words[word] = 0;
}

/** Payload bytes sent over each directed link since the reset, by link number. At rest only. */
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
