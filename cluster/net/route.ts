import type { Doorbell } from '../../src/fabric/doorbell.ts';
import type { FabricLayout } from '../../src/fabric/fabric-memory.ts';
import { queueDepth } from '../../src/fabric/fabric-memory.ts';
import { crcScratchBytes } from '../../src/fabric/kernels/crc.ts';
import type { Links } from '../../src/fabric/link.ts';
import { MemoryInLink, MemoryOutLink } from '../../src/fabric/memory-link.ts';
import { firstChunkElements } from '../../src/fabric/part.ts';
import type { Direction, Torus } from '../../src/fabric/torus.ts';
import { linkCount, linkName, neighbour, placement } from '../../src/fabric/torus.ts';
import { assert, at } from '../../src/numerics/assert.ts';

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
  /** The worker at this end, and the process at the other. */
  readonly worker: number;
  readonly peer: number;
}

/** Queues that leave this process for others, and those that come in, by queue number. */
export interface Crossings {
  readonly out: readonly Crossing[];
  readonly in: readonly Crossing[];
}

export const colours = 2;
/** The largest frame that an all-reduce sends. */
export const frameBytesMax: number = firstChunkElements * 4;
/** Of the ring into which the frames of one queue are received. */
export const windowBytes: number = 8 * frameBytesMax;

export function crossings({ torus, processOf, self }: Hosting): Crossings {
  const out: Crossing[] = [];
  const incoming: Crossing[] = [];
  for (let link = 0; link < linkCount(torus); link++) {
    const from = placement(torus, link >> 2).worker;
    const to = placement(torus, neighbour(torus, link >> 2, (link & 3) as Direction)).worker;
    const source = at(processOf, from);
    const target = at(processOf, to);
    if (source === target) continue;
    for (let colour = 0; colour < colours; colour++) {
      const queue = link * colours + colour;
      if (source === self) out.push({ link, colour, queue, worker: from, peer: target });
      if (target === self) incoming.push({ link, colour, queue, worker: to, peer: source });
    }
  }
  return { out, in: incoming };
}

/** Bytes of shared memory that the pump of this process needs: a ring a queue, and its scratch. */
export function receiveBytes(hosting: Hosting): number {
  return crossings(hosting).in.length * windowBytes + crcScratchBytes(frameBytesMax);
}

/** The name of the link of a queue, such as `chip(3,1)+x`, or of one that the torus has not. */
export function queueName(torus: Torus, queue: number): string {
  const link = Math.floor(queue / colours);
  return link >= 0 && link < linkCount(torus) ? linkName(torus, link) : `queue ${queue}`;
}

/**
 * The worker whose doorbell the pump of a process answers to: the first that is hosted elsewhere,
 * whose line in this process's memory nobody else uses.
 */
export function pumpWorker({ processOf, self }: Hosting): number {
  const worker = processOf.findIndex((process) => process !== self);
  assert(worker >= 0, 'a pump in a process that hosts every Cloud TPU');
  return worker;
}

/**
 * The ends of a slice's links in the memory of one process. A link to another process is a queue
 * like any other, at whose far end is the pump.
 */
export function processLinks(
  memory: WebAssembly.Memory,
  layout: FabricLayout,
  hosting: Hosting,
  doorbell: Doorbell,
): Links {
  const { torus, processOf, self } = hosting;
  const end = (link: number, colour: number, chip: number) => {
    const { worker } = placement(torus, chip);
    const peer = processOf[worker] === self ? worker : pumpWorker(hosting);
    return { memory, layout, link, colour, doorbell, peer };
  };
  return {
    out: (link, colour) =>
      new MemoryOutLink(end(link, colour, neighbour(torus, link >> 2, (link & 3) as Direction))),
    in: (link, colour) => new MemoryInLink(end(link, colour, link >> 2)),
  };
}

// A half-full window must take the largest frame, wherever in the ring the next one starts.
assert(windowBytes / 2 >= 2 * frameBytesMax && queueDepth >= 2, 'windows too small for frames');
