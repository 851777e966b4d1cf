import { queueDepth } from '../../src/fabric/fabric-memory.ts';
import { crcScratchBytes } from '../../src/fabric/kernels/crc.ts';
import { laneCount, longestPart } from '../../src/fabric/part.ts';
import type { Direction, Torus } from '../../src/fabric/torus.ts';
import { linkCount, linkName, neighbour, opposite, placement } from '../../src/fabric/torus.ts';
import { assert, at } from '../../src/numerics/assert.ts';
import { headerBytes, lineBytes } from './frame.ts';
import { mapBytes } from './segment.ts';

/** Assignment of Cloud TPUs to processes, as one of these processes sees it. */
export interface Hosting {
  readonly torus: Torus;
  /** Number of the process that hosts a worker, indexed by the number of the worker. */
  readonly processOf: readonly number[];
  readonly self: number;
}

/** Queue of a link between two processes. */
export interface Crossing {
  readonly link: number;
  readonly colour: number;
  /** Number of the queue: link · 2 + colour. */
  readonly queue: number;
  /** Number of the queue in the other direction, between the same chips. */
  readonly reverse: number;
  /** Number of the worker at this end (`worker`), and of the process at the other end (`peer`). */
  readonly worker: number;
  readonly peer: number;
}

/**
 * Queues that leave this process for other processes (`out`), and queues that come from other
 * processes (`in`), by ascending queue number.
 */
export interface Crossings {
  readonly out: readonly Crossing[];
  readonly in: readonly Crossing[];
}

/**
 * Sizes of frames between two processes. Both ends compute the same sizes, because the sizes follow
 * from the programs.
 */
export interface FrameSizes {
  /** Most elements of a frame. */
  readonly frameElements: number;
  readonly frameBytes: number;
  /**
   * Length of a receive slot in bytes: room for a payload, and for the header of the next frame.
   */
  readonly slotBytes: number;
}

export const colours = 2;
/**
 * Most elements of a frame between processes; they take 1 MiB. Frames are this long because each
 * frame costs both processes some system calls and callbacks, whatever its length. Longer frames
 * gain nothing more.
 */
export const frameElementsMax = 262144;
/**
 * Most frames of one queue that may be sent and not yet released. So many are enough for frames of
 * the other direction to report released frames in time.
 */
export const windowFrames = 8;
/**
 * Most frames of one queue that may be sent and not yet released while payloads go through a
 * segment. Every one of them has a slot of its own in the segment, which costs memory and caches.
 * More than two gain nothing.
 */
export const segmentFrames = 2;

/**
 * Returns the frame sizes for all-reduces of at most `elements` elements. Short vectors get short
 * frames and so need little memory.
 */
export function frameSizes({ width, height }: Torus, elements: number): FrameSizes {
  const lane = longestPart(elements, laneCount);
  const ring = Math.min(...[width, height].filter((length) => length > 1), lane);
  const chunk = Math.max(1, longestPart(lane, ring));
  const frameElements = Math.min(frameElementsMax, chunk);
  const frameBytes = frameElements * 4;
  const slotBytes = Math.ceil((frameBytes + headerBytes) / lineBytes) * lineBytes;
  return { frameElements, frameBytes, slotBytes };
}

export function crossings({ torus, processOf, self }: Hosting): Crossings {
  const out: Crossing[] = [];
  const incoming: Crossing[] = [];
  for (let link = 0; link < linkCount(torus); link++) {
    const direction = (link & 3) as Direction;
    const far = neighbour(torus, link >> 2, direction);
    const back = far * 4 + opposite(direction);
    const from = placement(torus, link >> 2).worker;
    const to = placement(torus, far).worker;
    const source = at(processOf, from);
    const target = at(processOf, to);
    if (source === target) continue;
    for (let colour = 0; colour < colours; colour++) {
      const queue = link * colours + colour;
      const crossing = { link, colour, queue, reverse: back * colours + colour };
      if (source === self) out.push({ ...crossing, worker: from, peer: target });
      if (target === self) incoming.push({ ...crossing, worker: to, peer: source });
    }
  }
  return { out, in: incoming };
}

/** Returns the numbers of the processes at the other ends of `crossings`, each number once. */
export function peersOf(crossings: readonly Crossing[]): readonly number[] {
  return [...new Set(crossings.map(({ peer }) => peer))];
}

/** Location of the segment that is shared with one peer, and the queues that have slots in it. */
export interface SegmentPlace {
  readonly peer: number;
  readonly address: number;
  /** Length in bytes, a multiple of {@link mapBytes}. */
  readonly bytes: number;
  /**
   * Queue numbers. Each queue has {@link segmentFrames} slots. The slots have the order of this
   * list.
   */
  readonly queues: readonly number[];
}

/** Memory that the pump of a process uses, as byte addresses. */
export interface PumpLayout {
  /**
   * Segments for frames to each peer (`out`) and from each peer (`in`). The pump does not touch a
   * segment that is not shared.
   */
  readonly segments: {
    readonly out: readonly SegmentPlace[];
    readonly in: readonly SegmentPlace[];
  };
  /** Slots for all frames that may arrive through sockets. Only a few slots are ever touched. */
  readonly slots: { readonly address: number; readonly count: number };
  /**
   * Scratch memory for CRC-32: one part for outgoing frames, then one part for each peer that
   * sends.
   */
  readonly scratch: number;
  /** Address of the first byte after the memory of the pump. */
  readonly end: number;
}

/**
 * Lays out the memory of a pump. The memory begins at the first address, from byte address `after`
 * on, where a range can be mapped: a multiple of {@link mapBytes}.
 */
export function layOutPump(hosting: Hosting, { slotBytes }: FrameSizes, after: number): PumpLayout {
  let end = roundUp(after);
  const take = (bytes: number): number => {
    end += bytes;
    return end - bytes;
  };
  const placesOf = (crossings: readonly Crossing[]): SegmentPlace[] =>
    peersOf(crossings).map((peer) => {
      const queues = crossings.filter((it) => it.peer === peer).map(({ queue }) => queue);
      const slotted = queues.length * segmentFrames * slotBytes;
      const bytes = roundUp(slotted);
      return { peer, address: take(bytes), bytes, queues };
    });
  const { out, in: incoming } = crossings(hosting);
  const segments = { out: placesOf(out), in: placesOf(incoming) };
  const count = incoming.length * windowFrames;
  const slots = { address: take(count * slotBytes), count };
  const scratch = take((1 + peersOf(incoming).length) * crcScratchBytes);
  return { segments, slots, scratch, end };
}

function roundUp(bytes: number): number {
  return Math.ceil(bytes / mapBytes) * mapBytes;
}

/**
 * Returns the byte address of the payload of a frame in the segment at `place`. `count` is the
 * number of frames (modulo 2^32) that the queue carried before this frame.
 */
export function segmentSlot(
  { address, queues }: SegmentPlace,
  { slotBytes }: FrameSizes,
  queue: number,
  count: number,
): number {
  const slot = queues.indexOf(queue) * segmentFrames + (count % segmentFrames);
  return address + slot * slotBytes;
}

/**
 * Returns the name of the link of a queue, such as `chip(3,1)+x`, or `queue N` if the torus has no
 * queue with that number.
 */
export function queueName(torus: Torus, queue: number): string {
  const link = Math.floor(queue / colours);
  return link >= 0 && link < linkCount(torus) ? linkName(torus, link) : `queue ${queue}`;
}

// Received frames wait in a queue of `queueDepth` frames for their lane, so a full window must fit
// into that queue.
assert(queueDepth >= windowFrames && windowFrames >= 2, `windows of ${windowFrames} frames`);
// Counts of frames wrap at 2^32, and a count determines the slot, so `segmentFrames` must divide
// 2^32.
const isFitting = segmentFrames <= windowFrames && 2 ** 32 % segmentFrames === 0;
assert(isFitting && segmentFrames >= 2, `segments of ${segmentFrames} frames a queue`);
