import { crc32 } from 'node:zlib';
import type { FrameCrc } from '../../src/fabric/kernels/crc.ts';
import { frameCrc } from '../../src/fabric/kernels/crc.ts';
import type { Frame, InLink, Links, OutLink } from '../../src/fabric/link.ts';
import { emptyFrame, unknownCrc } from '../../src/fabric/link.ts';
import { linkName } from '../../src/fabric/torus.ts';
import { assert } from '../../src/numerics/assert.ts';
import type { FrameHeader, FrameSink, Refusal } from './frame.ts';
import { emptyHeader, encodeHeader, frameKinds, HeaderRoom, headerBytes } from './frame.ts';
import { readRefusal } from './handshake.ts';
import type { FrameSizes, Hosting } from './route.ts';
import { colours, crossings, windowFrames } from './route.ts';
import { Slots } from './slots.ts';
import { SocketInLink, SocketOutLink } from './socket-link.ts';
import type { Wire } from './wire.ts';

export interface PumpParts {
  readonly memory: WebAssembly.Memory;
  readonly hosting: Hosting;
  readonly sizes: FrameSizes;
  /** Byte address of the `receiveBytes(hosting, sizes)` bytes into which frames are received. */
  readonly receiveAt: number;
  /** Membership; frames of another one are refused. */
  readonly epoch: number;
}

/** What works on the frames that come in, and makes those that go out. */
export interface Driven {
  /** Does all that can be done now, and says whether that was anything. */
  progress(): boolean;
}

/** A connection that takes frames to a peer. */
interface Route {
  readonly wire: Wire;
  readonly queues: readonly SocketOutLink[];
  readonly head: HeaderRoom;
  /** Whether its other end has said that it listens; nothing is sent before. */
  isHeard: boolean;
  /** Whose frame the kernel has not all of yet. */
  sending: SocketOutLink | undefined;
  /** Queue that is served first in the next turn. */
  turn: number;
}

/** A connection that brings frames from a peer. */
interface Source {
  readonly wire: Wire;
  readonly queues: readonly SocketInLink[];
}

/**
 * The links between this process and others, as all-reduces on the same thread see them: a frame
 * goes out on its connection from where it lies, and is released when the kernel has it. One that
 * comes in goes straight to where it is wanted, or into a ring of its own queue, and is given back
 * to the sender in time: so a slow receiver holds up the sender of that queue and nobody else.
 *
 * It runs on the main thread of its process, for one membership, whenever something happens: frames
 * come, a socket drains, or somebody pokes it. Nothing is allocated for a frame.
 */
export class Pump {
  readonly #parts: PumpParts;
  readonly #bytes: Buffer;
  readonly #crc: FrameCrc;
  readonly #out: ReadonlyMap<number, SocketOutLink>;
  readonly #in: ReadonlyMap<number, SocketInLink>;
  readonly #routes: Map<number, Route> = new Map();
  readonly #sources: Map<number, Source> = new Map();
  readonly #driven: Driven[] = [];
  readonly #header: FrameHeader = emptyHeader();
  /** Ranges of the memory as sockets take them, by byte address: the same come again and again. */
  readonly #ranges: Map<number, Uint8Array> = new Map();
  #isRunning = false;
  #isStepping = false;

  constructor(parts: PumpParts) {
    const { memory, hosting, receiveAt, sizes } = parts;
    assert(receiveAt % 16 === 0, `a receive area at ${receiveAt}`);
    this.#parts = parts;
    this.#bytes = Buffer.from(memory.buffer);
    const { out, in: incoming } = crossings(hosting);
    const { slotBytes } = sizes;
    const count = incoming.length * windowFrames;
    const slots = new Slots(receiveAt, slotBytes, count);
    this.#crc = frameCrc(memory, receiveAt + count * slotBytes);
    this.#out = new Map(out.map((it) => [it.queue, new SocketOutLink(it)]));
    this.#in = new Map(incoming.map((it) => [it.queue, new SocketInLink(it, slots)]));
  }

  /** Processes to which frames go, and from which they come. */
  get peers(): { readonly out: readonly number[]; readonly in: readonly number[] } {
    const { out, in: incoming } = crossings(this.#parts.hosting);
    const peers = (all: readonly { readonly peer: number }[]): number[] => [
      ...new Set(all.map(({ peer }) => peer)),
    ];
    return { out: peers(out), in: peers(incoming) };
  }

  /** The ends of the slice's links here: those to and from other processes, and `local` ones. */
  links(local: Links): Links {
    return {
      out: (link, colour): OutLink =>
        this.#out.get(link * colours + colour) ?? local.out(link, colour),
      in: (link, colour): InLink => this.#in.get(link * colours + colour) ?? local.in(link, colour),
    };
  }

  /** Payload bytes sent so far to other processes: link number, bytes, for every queue. */
  sentBytes(): readonly (readonly [link: number, bytes: number])[] {
    return [...this.#out.values()].map(({ crossing, bytes }) => [crossing.link, bytes]);
  }

  /** Lets `driven` run whenever something happens. */
  drive(driven: Driven): void {
    this.#driven.push(driven);
  }

  /**
   * Sends the frames for `peer` on `wire`, once it says that it listens; gives what takes what comes
   * back. The newest connection counts while the other end of the one before has not been heard.
   */
  openOut(peer: number, wire: Wire): FrameSink | Refusal {
    const queues = [...this.#out.values()].filter((it) => it.crossing.peer === peer);
    if (queues.length === 0) return { code: 'peer', text: `process ${peer} is no neighbour` };
    if (this.#routes.get(peer)?.isHeard) {
      return { code: 'peer', text: `process ${peer} is connected already` };
    }
    this.#routes.get(peer)?.wire.end();
    const head = new HeaderRoom();
    const route: Route = { wire, queues, head, isHeard: false, sending: undefined, turn: 0 };
    this.#routes.set(peer, route);
    return {
      place: (header) => this.#placeCredit(header),
      accept: (header, payload) => this.#takeCredit(route, header, payload),
      checksum: (payload) => crc32(payload),
    };
  }

  /**
   * Gives what takes the frames of `peer`; credits for them go back on `wire`, a first one at once,
   * for nothing: it says that this end listens.
   */
  openIn(peer: number, wire: Wire): FrameSink | Refusal {
    const queues = [...this.#in.values()].filter((it) => it.crossing.peer === peer);
    const [first] = queues;
    if (first === undefined) return { code: 'peer', text: `process ${peer} is no neighbour` };
    if (this.#sources.has(peer)) {
      return { code: 'peer', text: `process ${peer} is connected already` };
    }
    this.#sources.set(peer, { wire, queues });
    const frame = emptyFrame();
    let present = first;
    this.#sendCredit(wire, first, first.window.back);
    return {
      place: (header) => {
        if (header.kind === frameKinds.refuse) return new Uint8Array(header.bytes);
        const link = this.#findIncoming(peer, header);
        if ('code' in link) return link;
        present = link;
        frame.bytes = header.bytes;
        frame.epoch = header.epoch;
        frame.collective = header.collective;
        frame.sequence = header.sequence;
        const slack = link.place(frame) ? headerBytes : 0;
        return this.#range(frame.address, frame.bytes + slack);
      },
      accept: (header, payload) => {
        if (header.kind === frameKinds.refuse) return readRefusal(header, payload);
        present.deliver(frame);
        this.poke();
        return undefined;
      },
      checksum: (payload) => {
        if (payload.buffer !== this.#bytes.buffer) return crc32(payload);
        frame.crc = this.#crc.of(payload.byteOffset, payload.length);
        return frame.crc;
      },
    };
  }

  /** The other end of `wire`, which took frames to `peer`, has gone. Whether that was of no account. */
  closedOut(peer: number, wire: Wire): boolean {
    const route = this.#routes.get(peer);
    if (route?.wire !== wire) return true;
    if (route.isHeard) return false;
    this.#routes.delete(peer);
    return true;
  }

  /** All that was written on `wire`, on the way to `peer`, is with the kernel. */
  drained(peer: number, wire: Wire): void {
    const route = this.#routes.get(peer);
    if (route?.wire !== wire) return;
    route.sending?.sent();
    route.sending = undefined;
    this.poke();
  }

  start(): void {
    this.#isRunning = true;
    this.poke();
  }

  /** Does not touch the memory again; whoever owns the connections closes them. */
  stop(): void {
    this.#isRunning = false;
    this.#routes.clear();
    this.#sources.clear();
  }

  /** Does all that can be done now, after something has happened. */
  poke(): void {
    if (!this.#isRunning || this.#isStepping) return;
    this.#isStepping = true;
    try {
      while (this.step());
    } finally {
      this.#isStepping = false;
    }
  }

  /** Does what can be done in one turn, and says whether that was anything. */
  step(): boolean {
    let moved = false;
    for (const driven of this.#driven) if (driven.progress()) moved = true;
    for (const route of this.#routes.values()) if (this.#sendTurn(route)) moved = true;
    for (const source of this.#sources.values()) giveCredits(source, this.#sendCredit);
    return moved;
  }

  /** One frame of each queue of a connection, while the kernel takes them. */
  #sendTurn(route: Route): boolean {
    let moved = false;
    if (!route.isHeard) return false;
    for (let i = 0; i < route.queues.length && route.sending === undefined; i++) {
      const link = route.queues[route.turn];
      route.turn = route.turn + 1 === route.queues.length ? 0 : route.turn + 1;
      const frame = link?.next;
      if (link === undefined || frame === undefined) continue;
      this.#send(route, link, frame);
      moved = true;
    }
    return moved;
  }

  #send(route: Route, link: SocketOutLink, frame: Readonly<Frame>): void {
    assert(frame.epoch === this.#parts.epoch, `a frame of epoch ${frame.epoch} to be sent`);
    link.window.put();
    const header = this.#header;
    header.kind = frameKinds.tensor;
    header.epoch = frame.epoch;
    header.collective = frame.collective;
    header.sequence = frame.sequence;
    header.queue = link.crossing.queue;
    header.bytes = frame.bytes;
    const { address, bytes, crc } = frame;
    encodeHeader(header, crc === unknownCrc ? this.#crc.of(address, bytes) : crc, route.head);
    const payload = this.#range(address, bytes);
    if (route.wire.write(route.head.bytes, payload)) link.sent();
    else route.sending = link;
  }

  #range(address: number, bytes: number): Uint8Array {
    const known = this.#ranges.get(address);
    if (known?.length === bytes) return known;
    const range = this.#bytes.subarray(address, address + bytes);
    this.#ranges.set(address, range);
    return range;
  }

  readonly #sendCredit = (wire: Wire, link: SocketInLink, released: number): void => {
    const header = this.#header;
    header.kind = frameKinds.credit;
    header.epoch = this.#parts.epoch;
    header.collective = 0;
    header.sequence = released;
    header.queue = link.crossing.queue;
    header.bytes = 0;
    const record = new HeaderRoom();
    encodeHeader(header, 0, record);
    wire.write(record.bytes);
  };

  #placeCredit({ kind, epoch, bytes }: Readonly<FrameHeader>): Uint8Array | Refusal {
    if (kind === frameKinds.refuse) return new Uint8Array(bytes);
    if (kind !== frameKinds.credit) return { code: 'order', text: `a frame of kind ${kind}` };
    if (epoch !== this.#parts.epoch) return staleEpoch(epoch, this.#parts.epoch);
    return bytes === 0 ? noPayload : { code: 'length', text: 'a credit with a payload' };
  }

  #takeCredit(
    route: Route,
    header: Readonly<FrameHeader>,
    payload: Uint8Array,
  ): Refusal | undefined {
    if (header.kind === frameKinds.refuse) return readRefusal(header, payload);
    const { queue, sequence } = header;
    const link = this.#out.get(queue);
    if (link === undefined || !route.queues.includes(link)) {
      return { code: 'queue', text: `credit for queue ${queue}` };
    }
    if (!link.window.giveBack(sequence)) {
      return { code: 'credit', text: `queue ${queue}: credit for frames that were not sent` };
    }
    route.isHeard = true;
    this.poke();
    return undefined;
  }

  #findIncoming(peer: number, header: Readonly<FrameHeader>): SocketInLink | Refusal {
    const { kind, epoch, queue, bytes } = header;
    const { frameBytes } = this.#parts.sizes;
    if (kind !== frameKinds.tensor) return { code: 'order', text: `a frame of kind ${kind}` };
    if (epoch !== this.#parts.epoch) return staleEpoch(epoch, this.#parts.epoch);
    const link = this.#in.get(queue);
    if (link?.crossing.peer !== peer) {
      return { code: 'queue', text: `queue ${queue} does not come from process ${peer}` };
    }
    if (bytes === 0 || bytes % 4 !== 0 || bytes > frameBytes) {
      return { code: 'length', text: `a tensor of ${bytes} bytes, at most ${frameBytes}` };
    }
    if (link.window.hasRoom) return link;
    const name = linkName(this.#parts.hosting.torus, link.crossing.link);
    return { code: 'credit', text: `link ${name}: a frame for which there is no credit` };
  }
}

/** Tells a sender what it has got back, of queues whose windows are half full. */
function giveCredits(
  { wire, queues }: Source,
  send: (wire: Wire, link: SocketInLink, released: number) => void,
): void {
  for (const link of queues) {
    const released = link.credit;
    if (released === undefined) continue;
    const isRight = link.window.giveBack(released);
    assert(isRight, `queue ${link.crossing.queue}: ${released} frames released`);
    send(wire, link, released);
  }
}

const noPayload = new Uint8Array(0);

function staleEpoch(found: number, expected: number): Refusal {
  return { code: 'epoch', text: `epoch ${found}, expected ${expected}` };
}
