import { queueDepth } from '../../src/fabric/fabric-memory.ts';
import { crcScratchBytes } from '../../src/fabric/kernels/crc.ts';
import { laneCount, longestPart } from '../../src/fabric/part.ts';
import type { Direction, Torus } from '../../src/fabric/torus.ts';
import { linkCount, linkName, neighbour, opposite, placement } from '../../src/fabric/torus.ts';
import { assert, at } from '../../src/numerics/assert.ts';
import { headerBytes, lineBytes } from './frame.ts';
import { mapBytes } from './segment.ts';

/** Which process hosts which Cloud TPUs, seen from one of them. */
export interface Hosting {
  readonly torus: Torus;
  /** Number of the process, by worker. */
  readonly processOf: readonly number[];
  readonly self: number;
}

/** A queue of a link between two processes. */
export interface Crossing {
  readonly link: number;
  readonly colour: number;
  /** link · 2 + colour. */
  readonly queue: number;
  /** The queue that runs the other way, between the same chips. */
  readonly reverse: number;
  /** The worker at this end, and the process at the other. */
  readonly worker: number;
  readonly peer: number;
}

/** Queues that leave this process for others, and those that come in, by queue number. */
export interface Crossings {
  readonly out: readonly Crossing[];
  readonly in: readonly Crossing[];
}

/** What frames between processes may hold: the same at both ends, since it follows from the programs. */
export interface FrameSizes {
  /** The most elements of a frame. */
  readonly frameElements: number;
  readonly frameBytes: number;
  /** Bytes of a receive slot: room for a payload, and for the header of the next frame after it. */
  readonly slotBytes: number;
}

export const colours = 2;
/**
 * The most elements of a frame between processes, 1 MiB: each costs two processes some system calls
 * and callbacks, whatever its length; longer ones gain nothing more.
 */
export const frameElementsMax = 262144;
/** Frames of one queue that may be under way: enough for frames of the other way to give them back in time. */
export const windowFrames = 8;
/**
 * Of these, those whose payloads lie in a segment. Each has a place there of its own, so that memory
 * and caches are the price; more than two gain nothing.
 */
export const segmentFrames = 2;

/** Sizes for all-reduces of at most `elements` elements: short vectors need little memory. */
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

/** The processes at the other ends. */
export function peersOf(crossings: readonly Crossing[]): readonly number[] {
  return [...new Set(crossings.map(({ peer }) => peer))];
}

/** Where the segment that is shared with a peer lies, and the queues with places in it. */
export interface SegmentPlace {
  readonly peer: number;
  readonly address: number;
  /** A multiple of {@link mapBytes}. */
  readonly bytes: number;
  /** Numbers. Each has {@link segmentFrames} slots, one queue after another. */
  readonly queues: readonly number[];
}

/** What the pump of a process has in the memory: byte addresses. */
export interface PumpLayout {
  /** Segments of what goes to each peer, and of what comes from each. Not touched where nothing is shared. */
  readonly segments: {
    readonly out: readonly SegmentPlace[];
    readonly in: readonly SegmentPlace[];
  };
  /** For all that may come through sockets; few are ever touched. */
  readonly slots: { readonly address: number; readonly count: number };
  /** For the CRCs of what goes out, and of what comes from each peer in turn. */
  readonly scratch: number;
  /** The byte after all of it. */
  readonly end: number;
}

/** Lays out what a pump needs, from the first place after byte address `after` where a range can be mapped. */
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

/** Byte address where the payload of frame `count` of a queue lies in the segment at `place`. */
export function segmentSlot(
  { address, queues }: SegmentPlace,
  { slotBytes }: FrameSizes,
  queue: number,
  count: number,
): number {
  const slot = queues.indexOf(queue) * segmentFrames + (count % segmentFrames);
  return address + slot * slotBytes;
}

/** The name of the link of a queue, such as `chip(3,1)+x`, or of one that the torus has not. */
export function queueName(torus: Torus, queue: number): string {
  const link = Math.floor(queue / colours);
  return link >= 0 && link < linkCount(torus) ? linkName(torus, link) : `queue ${queue}`;
}

// What has come waits in a queue for its lane.
assert(queueDepth >= windowFrames && windowFrames >= 2, `windows of ${windowFrames} frames`);
// Counts of frames are modulo 2^32, and a slot follows from them.
const isFitting = segmentFrames <= windowFrames && 2 ** 32 % segmentFrames === 0;
assert(isFitting && segmentFrames >= 2, `segments of ${segmentFrames} frames a queue`);
