import { crcScratchBytes, FrameCrc } from '../../src/fabric/kernels/crc.ts';
import type { Frame, InLink, Links, OutLink } from '../../src/fabric/link.ts';
import { emptyFrame, unknownCrc } from '../../src/fabric/link.ts';
import { linkCount, linkName, type Torus } from '../../src/fabric/torus.ts';
import { assert, broken } from '../../src/numerics/assert.ts';
import type { FrameHeader, FrameSink, Refusal } from './frame.ts';
import {
  emptyHeader,
  encodeHeader,
  frameKinds,
  HeaderRoom,
  headerBytes,
  lineBytes,
} from './frame.ts';
import { readRefusal } from './handshake.ts';
import type { Crossing, FrameSizes, Hosting } from './route.ts';
import { colours, crossings, peersOf, windowFrames } from './route.ts';
import { Slots } from './slots.ts';
import { type Outbox, SocketInLink, SocketOutLink } from './socket-link.ts';
import type { Wire } from './wire.ts';

export interface PumpParts {
  readonly memory: WebAssembly.Memory;
  readonly hosting: Hosting;
  readonly sizes: FrameSizes;
  /** 64-aligned byte address of the `receiveBytes(hosting, sizes)` bytes into which frames are received. */
  readonly receiveAt: number;
  /** Membership; frames of another one are refused. */
  readonly epoch: number;
}

/** What works on the frames that come in, and makes those that go out. */
export interface Driven {
  /** Does all that can be done now. */
  progress(): void;
}

/** The way to a peer: its queues, and the connection that takes their frames there. */
interface Route extends Outbox {
  readonly peer: number;
  readonly queues: readonly SocketOutLink[];
  readonly head: HeaderRoom;
  wire: Wire | undefined;
  /** Whether its other end has said that it listens; nothing is sent before. */
  isHeard: boolean;
  /** Whose frame the kernel has not all of yet. */
  sending: SocketOutLink | undefined;
  /** Queue that is served first in the next turn. */
  turn: number;
}

/**
 * The links between this process and others, as all-reduces on the same thread see them: a frame
 * goes out on its connection from where it lies, and is released when the kernel has it. One that
 * comes in goes straight to where it is wanted, or into a ring of its own queue, and is given back
 * to the sender in time: so a slow receiver holds up the sender of that queue and nobody else. Every
 * frame that goes the other way says how many have been given back; only where none goes for long, a
 * credit does.
 *
 * It runs on the main thread of its process, for one membership, whenever something happens: frames
 * come, a socket drains, or somebody pokes it. Nothing is allocated for a frame.
 */
export class Pump {
  readonly #parts: PumpParts;
  readonly #bytes: Buffer;
  /** Of what goes out, and of what comes in by peer. */
  readonly #crc: FrameCrc;
  readonly #crcOf: ReadonlyMap<number, FrameCrc>;
  readonly #routes: readonly Route[];
  /** By queue number: those that go to other processes, and those that come from them. */
  readonly #out: readonly (SocketOutLink | undefined)[];
  readonly #in: readonly (SocketInLink | undefined)[];
  /** Connections that bring frames, by peer. */
  readonly #sources: Map<number, Wire> = new Map();
  /** Queues whose senders should hear that frames have been given back, if no frame tells them. */
  readonly #due: SocketInLink[] = [];
  readonly #driven: Driven[] = [];
  readonly #header: FrameHeader = emptyHeader();
  /** Ranges of the memory as sockets take them, by length and address: the same come again and again. */
  readonly #ranges: Map<number, Map<number, Uint8Array>> = new Map();
  #isRunning = false;
  #isStepping = false;

  constructor(parts: PumpParts) {
    const { memory, hosting, receiveAt, sizes } = parts;
    assert(receiveAt % lineBytes === 0, `a receive area at ${receiveAt}`);
    this.#parts = parts;
    this.#bytes = Buffer.from(memory.buffer);
    const { out, in: incoming } = crossings(hosting);
    const { slotBytes } = sizes;
    const count = incoming.length * windowFrames;
    const slots = new Slots(receiveAt, slotBytes, count);
    const scratch = receiveAt + count * slotBytes;
    this.#crc = new FrameCrc(memory, scratch);
    this.#crcOf = new Map(
      peersOf(incoming).map((peer, i) => {
        return [peer, new FrameCrc(memory, scratch + (1 + i) * crcScratchBytes)];
      }),
    );
    this.#routes = peersOf(out).map((peer) => makeRoute(peer, out, this.#crc));
    const senders = this.#routes.flatMap(({ queues }) => queues);
    const takers = incoming.map((it) => new SocketInLink(it, slots, this.#due));
    this.#out = byQueue(senders, hosting.torus);
    this.#in = byQueue(takers, hosting.torus);
  }

  /** Processes to which frames go, and from which they come. */
  get peers(): { readonly out: readonly number[]; readonly in: readonly number[] } {
    return { out: this.#routes.map(({ peer }) => peer), in: [...this.#crcOf.keys()] };
  }

  /** The ends of the slice's links here: those to and from other processes, and `local` ones. */
  links(local: Links): Links {
    return {
      out: (link, colour): OutLink => this.#out[link * colours + colour] ?? local.out(link, colour),
      in: (link, colour): InLink => this.#in[link * colours + colour] ?? local.in(link, colour),
    };
  }

  /** Payload bytes sent so far to other processes: link number, bytes, for every queue. */
  sentBytes(): readonly (readonly [link: number, bytes: number])[] {
    return this.#out.flatMap((it) => (it ? [[it.crossing.link, it.bytes] as const] : []));
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
    const route = this.#routeTo(peer);
    if (route === undefined) return { code: 'peer', text: `process ${peer} is no neighbour` };
    if (route.isHeard) return { code: 'peer', text: `process ${peer} is connected already` };
    route.wire?.end();
    route.wire = wire;
    return {
      place: (header) => this.#placeCredit(header),
      accept: (header, payload) => this.#takeCredit(route, header, payload),
    };
  }

  /**
   * Gives what takes the frames of `peer`; credits for them go back on `wire`, a first one at once,
   * for nothing: it says that this end listens.
   */
  openIn(peer: number, wire: Wire): FrameSink | Refusal {
    const first = this.#in.find((it) => it?.crossing.peer === peer);
    const crc = this.#crcOf.get(peer);
    if (first === undefined || crc === undefined) {
      return { code: 'peer', text: `process ${peer} is no neighbour` };
    }
    if (this.#sources.has(peer)) {
      return { code: 'peer', text: `process ${peer} is connected already` };
    }
    this.#sources.set(peer, wire);
    const frame = emptyFrame();
    let present = first;
    this.#sendCredit(wire, first.crossing.queue, first.window.back);
    return {
      place: (header) => {
        if (header.kind === frameKinds.refuse) return new Uint8Array(header.bytes);
        const link = this.#findIncoming(peer, header);
        if (!(link instanceof SocketInLink)) return link;
        present = link;
        frame.bytes = header.bytes;
        frame.epoch = header.epoch;
        frame.collective = header.collective;
        frame.sequence = header.sequence;
        const slack = link.place(frame) ? headerBytes : 0;
        return this.#range(frame.address, frame.bytes + slack);
      },
      accept: (header, payload, payloadCrc) => {
        if (header.kind === frameKinds.refuse) return readRefusal(header, payload);
        frame.crc = payloadCrc;
        present.deliver(frame);
        this.poke();
        return undefined;
      },
      checksum: (place, bytes) => {
        if (place.buffer !== this.#bytes.buffer) return undefined;
        crc.begin(place.byteOffset, bytes);
        return crc;
      },
    };
  }

  /** The other end of `wire`, which took frames to `peer`, has gone. Whether that was of no account. */
  closedOut(peer: number, wire: Wire): boolean {
    const route = this.#routeTo(peer);
    if (route?.wire !== wire) return true;
    if (route.isHeard) return false;
    route.wire = undefined;
    return true;
  }

  /** All that was written on `wire`, on the way to `peer`, is with the kernel. */
  drained(peer: number, wire: Wire): void {
    const route = this.#routeTo(peer);
    if (route?.wire !== wire || route.sending === undefined) return;
    route.sending.sent();
    route.sending = undefined;
    route.isReady = true;
    this.poke();
  }

  start(): void {
    this.#isRunning = true;
    this.poke();
  }

  /** Does not touch the memory again; whoever owns the connections closes them. */
  stop(): void {
    this.#isRunning = false;
    for (const route of this.#routes) route.wire = undefined;
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

  /** Does what can be done in one turn, and says whether there may be more. */
  step(): boolean {
    for (let i = 0; i < this.#driven.length; i++) this.#driven[i]?.progress();
    let hasSent = false;
    for (let i = 0; i < this.#routes.length; i++) {
      const route = this.#routes[i];
      if (route?.isReady && this.#send(route)) hasSent = true;
    }
    while (this.#due.length > 0) this.#giveBack(this.#due.pop());
    return hasSent;
  }

  /** Sends what may go to a peer while the kernel takes it, queue by queue; says if that was any. */
  #send(route: Route): boolean {
    if (!route.isHeard || route.sending !== undefined) return false;
    const { queues } = route;
    let moved = false;
    let empty = 0;
    while (empty < queues.length && route.sending === undefined) {
      const link = queues[route.turn];
      route.turn = route.turn + 1 === queues.length ? 0 : route.turn + 1;
      const frame = link?.next;
      if (link === undefined || frame === undefined) {
        empty++;
        continue;
      }
      this.#sendFrame(route, link, frame);
      empty = 0;
      moved = true;
    }
    // Until a frame comes, or a credit, or the kernel has taken the last.
    route.isReady = false;
    return moved;
  }

  #sendFrame(route: Route, link: SocketOutLink, frame: Readonly<Frame>): void {
    if (frame.epoch !== this.#parts.epoch) broken(`a frame of epoch ${frame.epoch} to be sent`);
    link.window.put();
    const header = this.#header;
    header.kind = frameKinds.tensor;
    header.epoch = frame.epoch;
    header.collective = frame.collective;
    header.sequence = frame.sequence;
    header.queue = link.crossing.queue;
    header.bytes = frame.bytes;
    header.returned = this.#in[link.crossing.reverse]?.giveBack() ?? 0;
    const { address, bytes, crc } = frame;
    encodeHeader(header, crc === unknownCrc ? this.#crc.of(address, bytes) : crc, route.head);
    const payload = this.#range(address, bytes);
    if (route.wire?.write(route.head.bytes, payload)) link.sent();
    else route.sending = link;
  }

  #giveBack(link: SocketInLink | undefined): void {
    if (!link?.isCrowded) return;
    const wire = this.#sources.get(link.crossing.peer);
    if (wire) this.#sendCredit(wire, link.crossing.queue, link.giveBack());
  }

  #routeTo(peer: number): Route | undefined {
    return this.#routes.find((it) => it.peer === peer);
  }

  #range(address: number, bytes: number): Uint8Array {
    const ranges = this.#ranges.get(bytes) ?? new Map<number, Uint8Array>();
    if (ranges.size === 0) this.#ranges.set(bytes, ranges);
    const known = ranges.get(address);
    if (known) return known;
    const range = this.#bytes.subarray(address, address + bytes);
    ranges.set(address, range);
    return range;
  }

  #sendCredit(wire: Wire, queue: number, released: number): void {
    const header = this.#header;
    header.kind = frameKinds.credit;
    header.epoch = this.#parts.epoch;
    header.collective = 0;
    header.sequence = 0;
    header.queue = queue;
    header.bytes = 0;
    header.returned = released;
    const record = new HeaderRoom();
    encodeHeader(header, 0, record);
    wire.write(record.bytes);
  }

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
    const { queue, returned } = header;
    const link = this.#out[queue];
    if (link?.crossing.peer !== route.peer) {
      return { code: 'queue', text: `credit for queue ${queue}` };
    }
    if (!link.giveBack(returned)) return notSent(queue);
    route.isHeard = true;
    this.poke();
    return undefined;
  }

  #findIncoming(peer: number, header: Readonly<FrameHeader>): SocketInLink | Refusal {
    const { kind, epoch, queue, bytes, returned } = header;
    const { frameBytes } = this.#parts.sizes;
    if (kind !== frameKinds.tensor) return { code: 'order', text: `a frame of kind ${kind}` };
    if (epoch !== this.#parts.epoch) return staleEpoch(epoch, this.#parts.epoch);
    const link = this.#in[queue];
    if (link?.crossing.peer !== peer) {
      return { code: 'queue', text: `queue ${queue} does not come from process ${peer}` };
    }
    if (bytes === 0 || bytes % 4 !== 0 || bytes > frameBytes) {
      return { code: 'length', text: `a tensor of ${bytes} bytes, at most ${frameBytes}` };
    }
    if (!link.window.hasRoom) {
      const name = linkName(this.#parts.hosting.torus, link.crossing.link);
      return { code: 'credit', text: `link ${name}: a frame for which there is no credit` };
    }
    const { reverse } = link.crossing;
    return this.#out[reverse]?.giveBack(returned) ? link : notSent(reverse);
  }
}

function makeRoute(peer: number, out: readonly Crossing[], crc: FrameCrc): Route {
  const queues: SocketOutLink[] = [];
  const route: Route = {
    ...{ peer, queues, head: new HeaderRoom() },
    ...{ wire: undefined, isReady: false, isHeard: false, sending: undefined, turn: 0 },
  };
  for (const it of out) if (it.peer === peer) queues.push(new SocketOutLink(it, route, crc));
  return route;
}

/** Links by the number of their queue. */
function byQueue<L extends { readonly crossing: Crossing }>(
  links: readonly L[],
  torus: Torus,
): readonly (L | undefined)[] {
  const table: (L | undefined)[] = Array(linkCount(torus) * colours).fill(undefined);
  for (const link of links) table[link.crossing.queue] = link;
  return table;
}

const noPayload = new Uint8Array(0);

function notSent(queue: number): Refusal {
  return { code: 'credit', text: `queue ${queue}: frames given back that were not sent` };
}

function staleEpoch(found: number, expected: number): Refusal {
  return { code: 'epoch', text: `epoch ${found}, expected ${expected}` };
}
