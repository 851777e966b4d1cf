import { assert } from '../numerics/assert.ts';
import { frameHeaderBytes } from './link.ts';
import { blockElements, firstChunkElements, laneCount, longestPart } from './part.ts';
import type { Torus } from './torus.ts';
import { linkCount } from './torus.ts';

/** Bytes that processors move between them as one: words of different writers lie this far apart. */
const lineBytes = 128;

/** Frames in a queue. Two are the fewest with which a ring cannot block itself. */
export const queueDepth = 2;
const coloursPerLink = 2;

const minSlotBytes = 4096;
const maxSlotBytes = 65536;
/** The slots of a slice's queues shrink to stay below this. */
const queueBudgetBytes = 128 * 2 ** 20;

/** Where a slice's links and doorbells lie in the shared memory. Bytes and byte addresses. */
export interface FabricLayout {
  readonly base: number;
  /** Of everything below. */
  readonly bytes: number;
  /** Largest payload of a frame. */
  readonly slotBytes: number;
  /** Of a queue, from one to the next. Queue number = link · 2 + colour. */
  readonly queueBytes: number;
  readonly queues: number;
  readonly queueCount: number;
  /** One line for all, then one for each worker: see doorbell.ts. */
  readonly control: number;
  readonly workers: number;
}

/** A queue: a line the sender writes, a line the receiver writes, then the slots. */
export const queueWords: {
  readonly head: number;
  readonly sentBytes: number;
  readonly tail: number;
} = { head: 0, sentBytes: 2, tail: lineBytes / 4 };
export const slotsOffset: number = 2 * lineBytes;

/** Bytes from one slot to the next; the header lies at the end of a slot's first 64 bytes. */
export function slotStride(slotBytes: number): number {
  return roundUp(slotBytes, 64) + 64;
}
export const frameOffset: number = 64 - frameHeaderBytes;

/**
 * Lays the queues of a slice out from `base` (128-aligned) on, for all-reduces of up to
 * `largestElements` f32. A frame carries up to `slotBytes`, a multiple of 16.
 */
export function layOutFabric(
  torus: Torus,
  largestElements: number,
  base: number,
  slotBytes: number = usefulSlotBytes(torus, largestElements),
): FabricLayout {
  assert(base > 0 && base % lineBytes === 0, `fabric memory at ${base}`);
  assert(slotBytes > 0 && slotBytes % 16 === 0, `slots of ${slotBytes} bytes`);
  const queueCount = linkCount(torus) * coloursPerLink;
  const queueBytes = roundUp(slotsOffset + queueDepth * slotStride(slotBytes), lineBytes);
  const controlBytes = (1 + torus.workers) * lineBytes;
  return {
    base,
    bytes: controlBytes + queueCount * queueBytes,
    slotBytes,
    queueBytes,
    queues: base + controlBytes,
    queueCount,
    control: base,
    workers: torus.workers,
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
  return layout.queues + (link * coloursPerLink + colour) * layout.queueBytes;
}

/**
 * Empties every queue and takes back an abort, before the workers of an epoch start. Counted bytes
 * start from 0.
 */
export function resetFabric(memory: WebAssembly.Memory, layout: FabricLayout): void {
  const words = new Uint32Array(memory.buffer);
  const queueControl = slotsOffset / 4;
  const control = layout.control / 4;
  words.fill(0, control, control + (layout.queues - layout.control) / 4);
  for (let queue = 0; queue < layout.queueCount; queue++) {
    const start = (layout.queues + queue * layout.queueBytes) / 4;
    words.fill(0, start, start + queueControl);
  }
}

/** Payload bytes sent over each directed link since the reset, by link number. At rest only. */
export function sentBytes(memory: WebAssembly.Memory, layout: FabricLayout): Float64Array {
  const words = new Uint32Array(memory.buffer);
  const counts = new Float64Array(layout.queueCount / coloursPerLink);
  for (let queue = 0; queue < layout.queueCount; queue++) {
    const word = (layout.queues + queue * layout.queueBytes) / 4 + queueWords.sentBytes;
    const link = Math.floor(queue / coloursPerLink);
    counts[link] = (counts[link] ?? 0) + (words[word] ?? 0) + (words[word + 1] ?? 0) * 2 ** 32;
  }
  return counts;
}

/** As large as the largest chunk, within a budget for large slices. */
function usefulSlotBytes(torus: Torus, elements: number): number {
  const slots = linkCount(torus) * coloursPerLink * queueDepth;
  const affordable = roundDown(queueBudgetBytes / slots, 1024);
  const useful = roundUp(largestChunkElements(torus, elements) * 4, 64);
  return Math.max(minSlotBytes, Math.min(maxSlotBytes, affordable, useful));
}

function largestChunkElements(torus: Torus, elements: number): number {
  const lane = longestPart(elements, laneCount);
  const block = Math.min(lane, Math.max(blockElements(torus, 0), blockElements(torus, 2)));
  return Math.min(firstChunkElements, longestPart(block, Math.min(torus.width, torus.height)));
}

function roundUp(value: number, multiple: number): number {
  return Math.ceil(value / multiple) * multiple;
}

function roundDown(value: number, multiple: number): number {
  return Math.floor(value / multiple) * multiple;
}
