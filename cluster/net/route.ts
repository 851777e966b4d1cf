import { queueDepth } from '../../src/fabric/fabric-memory.ts';
import { crcScratchBytes } from '../../src/fabric/kernels/crc.ts';
import { laneCount, longestPart } from '../../src/fabric/part.ts';
import type { Direction, Torus } from '../../src/fabric/torus.ts';
import {
  linkCount,
  linkName,
  linkNumber,
  neighbour,
  opposite,
  placement,
} from '../../src/fabric/torus.ts';
import { assert, at } from '../../src/numerics/assert.ts';
import { headerBytes, lineBytes } from './frame.ts';
import { mapBytes } from './segment.ts';

/**
 * Assignment of the Cloud TPUs of a slice to processes. `self` is the number of the process that
 * uses this object.
 */
export interface Hosting {
  readonly torus: Torus;
  /** processOf[w]: number of the process that hosts worker w. */
  readonly processOf: readonly number[];
  readonly self: number;
}

/**
 * One queue of a link between two processes. A link has two queues, one for each colour. Every
 * all-reduce splits its data into two halves: the half with colour 0 travels along X first, the
 * half with colour 1 along Y first.
 */
export interface Crossing {
  readonly link: number;
  readonly colour: number;
  /** Index of the queue: link · 2 + colour. */
  readonly queue: number;
  /** Index of the queue that leads back: same colour, same two chips, opposite direction. */
  readonly reverse: number;
  /**
   * `worker`: number of the worker at this process's end of the link. `peer`: number of the process
   * at the other end of the link.
   */
  readonly worker: number;
  readonly peer: number;
}

/**
 * Queues between this process and other processes. `out` has the queues that leave this process,
 * `in` those that enter it. Both arrays are sorted by the index of the queue.
 */
export interface Crossings {
  readonly out: readonly Crossing[];
  readonly in: readonly Crossing[];
}

/**
 * Sizes of the frames that processes exchange. Both ends of a link compute the same sizes, because
 * the sizes depend only on the torus and on the longest all-reduce of the programs.
 */
export interface FrameSizes {
  /** Largest number of elements in one frame; `frameBytes` is the same size in bytes. */
  readonly frameElements: number;
  readonly frameBytes: number;
  /**
   * Length of a slot (receive buffer) in bytes. A slot has room for a payload and for the header of
   * the next frame, which may be received together with the payload.
   */
  readonly slotBytes: number;
}

export const colours = 2;
/**
 * Largest number of elements in one frame between processes: 1 MiB of f32. Each frame costs both
 * processes some system calls and callbacks, whatever its length, so frames are long. Still longer
 * frames bring no further gain.
 */
export const frameElementsMax = 262144;
/**
 * How many frames of one queue may be sent and not yet released by the receiver. The receiver
 * reports released frames in its own tensor frames, which go in the opposite direction. With a
 * limit of 8 frames, a report usually arrives before the sender reaches the limit.
 */
export const windowFrames = 8;
/**
 * How many frames of one queue may be sent and not yet released if the payloads go through a
 * segment (shared memory). Each of these frames has a slot of its own in the segment, and slots
 * cost memory and cache. More than two frames bring no further gain.
 */
export const segmentFrames = 2;

/**
 * Returns the sizes of frames for all-reduces of at most `elements` elements. A short vector gets
 * short frames, which need little memory.
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
    const back = linkNumber(far, opposite(direction));
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

/** Returns the numbers of the processes at the other ends of `crossings`, without repetition. */
export function peersOf(crossings: readonly Crossing[]): readonly number[] {
  return [...new Set(crossings.map(({ peer }) => peer))];
}

/**
 * Location of the segment (shared memory) for one peer, and the queues whose payloads go through
 * the segment.
 */
export interface SegmentPlace {
  readonly peer: number;
  readonly address: number;
  /** Length of the segment in bytes, a multiple of {@link mapBytes}. */
  readonly bytes: number;
  /**
   * Indices of the queues whose payloads go through the segment. The segment has {@link
   * segmentFrames} slots for each queue, in the order of this array.
   */
  readonly queues: readonly number[];
}

/**
 * Memory that the pump of a process uses. The pump moves frames between the links and the sockets
 * of the process. All addresses are byte addresses.
 */
export interface PumpLayout {
  /**
   * Places of the segments. A segment is memory that this process shares with one peer. Payloads to
   * a peer go through a segment of `out`, payloads from a peer through a segment of `in`. If a peer
   * shares no memory with this process, the places of its segments stay unused.
   */
  readonly segments: {
    readonly out: readonly SegmentPlace[];
    readonly in: readonly SegmentPlace[];
  };
  /**
   * Slots, which are receive buffers for the payloads of frames that arrive through sockets. A
   * sender may have sent up to {@link windowFrames} frames of a queue that are not released yet.
   * There is a slot for each of these frames, but usually only a few slots are used.
   */
  readonly slots: { readonly address: number; readonly count: number };
  /**
   * Address of the working memory for CRC-32. Its first part serves the outgoing frames. Then
   * follows one part for each peer that sends frames to this process.
   */
  readonly scratch: number;
  /** Address of the first byte after all places that the pump uses. */
  readonly end: number;
}

/**
 * Lays out the memory of a pump. The memory starts at the first multiple of {@link mapBytes} at or
 * after byte address `after`, because shared memory can be mapped only at such an address.
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
 * Returns the byte address of the slot in a segment (shared memory) that takes the payload of one
 * frame. `queue` is the index of the queue that carries the frame. `count` is how many frames
 * (modulo 2^32) that queue carried before this frame.
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
 * Returns the name of the link to which a queue belongs, such as `chip(3,1)+x`, or `queue N` if the
 * torus has no queue with the index `queue`.
 */
export function queueName(torus: Torus, queue: number): string {
  const link = Math.floor(queue / colours);
  return link >= 0 && link < linkCount(torus) ? linkName(torus, link) : `queue ${queue}`;
}

// In the receiving process, the frames of a queue wait in a ring until the all-reduce takes them.
// The ring has room for `queueDepth` frames. The sender may send `windowFrames` frames before it
// must wait, so the ring must have room for that many.
assert(queueDepth >= windowFrames && windowFrames >= 2, `windows of ${windowFrames} frames`);
// The frames of a queue are counted modulo 2^32, and frame number n uses slot n mod
// `segmentFrames`. So `segmentFrames` must divide 2^32; otherwise the order of the slots would
// break when the count returns to 0.
const isFitting = segmentFrames <= windowFrames && 2 ** 32 % segmentFrames === 0;
assert(isFitting && segmentFrames >= 2, `segments of ${segmentFrames} frames a queue`);
