import { cachedBytes, crcScratchBytes, FrameCrc } from '../../src/fabric/kernels/crc.ts';
import type { SumKernels } from '../../src/fabric/kernels/sum.ts';
import type { Frame, InLink, Links, OutLink } from '../../src/fabric/link.ts';
import { emptyFrame, unknownCrc } from '../../src/fabric/link.ts';
import { linkCount, linkName, type Torus } from '../../src/fabric/torus.ts';
import { broken } from '../../src/numerics/assert.ts';
import type { FrameHeader, FrameSink, Refusal } from './frame.ts';
import { emptyHeader, encodeHeader, frameKinds, HeaderRoom, headerBytes } from './frame.ts';
import { readRefusal } from './handshake.ts';
import type { Crossing, FrameSizes, Hosting, PumpLayout } from './route.ts';
import { colours, crossings, segmentFrames } from './route.ts';
import { answerFrame, InSegment, OutSegment } from './shared.ts';
import { Slots } from './slots.ts';
import { type Outbox, SocketInLink, SocketOutLink } from './socket-link.ts';
import type { Wire } from './wire.ts';

export interface PumpParts {
  readonly memory: WebAssembly.Memory;
  readonly hosting: Hosting;
  readonly sizes: FrameSizes;
  readonly layout: PumpLayout;
  readonly kernels: SumKernels;
  /** Membership; frames of another one are refused. */
  readonly generation: number;
  /** Whether payloads may go through memory that is shared with peers on this host. */
  readonly shares: boolean;
  /** Told why nothing is shared with a peer with which something could be. */
  readonly unshared: (peer: number, cause: string) => void;
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
  readonly segment: OutSegment;
  wire: Wire | undefined;
  /** Whether its other end has said that it listens; nothing is sent before. */
  isHeard: boolean;
  /** Whose frame the kernel has not all of yet. */
  sending: SocketOutLink | undefined;
  /** Queue that is served first in the next turn. */
  turn: number;
}

/** The way from a peer. */
interface Source {
  readonly peer: number;
  readonly queues: readonly SocketInLink[];
  readonly crc: FrameCrc;
  readonly segment: InSegment;
  /** Takes credits. */
  wire: Wire | undefined;
}

/**
 * The links between this process and others, as all-reduces on the same thread see them: a frame
 * goes out on its connection from where it lies, and is released when the kernel has it; or, between
 * processes of one host, when it has been copied to memory that both map. One that comes in by a
 * socket goes straight to where it is wanted, or into a ring of its own queue, and is given back
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
  /** CRC of what goes out. */
  readonly #crc: FrameCrc;
  readonly #routes: readonly Route[];
  readonly #sources: readonly Source[];
  /** By queue number: those that go to other processes, and those that come from them. */
  readonly #out: readonly (SocketOutLink | undefined)[];
  readonly #in: readonly (SocketInLink | undefined)[];
  /** Queues whose senders should hear that frames have been given back, if no frame tells them. */
  readonly #due: SocketInLink[] = [];
  readonly #driven: Driven[] = [];
  readonly #header: FrameHeader = emptyHeader();
  /** Ranges of the memory as sockets take them, by length and address: the same come again and again. */
  readonly #ranges: Map<number, Map<number, Uint8Array>> = new Map();
  #isRunning = false;
  #isStepping = false;

  constructor(parts: PumpParts) {
    const { memory, hosting, layout, sizes } = parts;
    this.#parts = parts;
    this.#bytes = Buffer.from(memory.buffer);
    const { out, in: incoming } = crossings(hosting);
    const { segments, scratch } = layout;
    const slots = new Slots(layout.slots.address, sizes.slotBytes, layout.slots.count);
    this.#crc = new FrameCrc(memory, scratch);
    this.#routes = segments.out.map((place) =>
      makeRoute(place.peer, out, this.#crc, new OutSegment(this.#bytes, place, sizes)),
    );
    this.#sources = segments.in.map((place, i) => {
      const { peer } = place;
      const queues = incoming
        .filter((it) => it.peer === peer)
        .map((it) => new SocketInLink(it, slots, this.#due));
      const crc = new FrameCrc(memory, scratch + (1 + i) * crcScratchBytes);
      const segment = new InSegment(this.#bytes, place, sizes);
      return { peer, queues, crc, segment, wire: undefined };
    });
    this.#out = byQueue(
      this.#routes.flatMap(({ queues }) => queues),
      hosting.torus,
    );
    this.#in = byQueue(
      this.#sources.flatMap(({ queues }) => queues),
      hosting.torus,
    );
  }

  /** Processes to which frames go, and from which they come. */
  get peers(): { readonly out: readonly number[]; readonly in: readonly number[] } {
    return { out: this.#routes.map(({ peer }) => peer), in: this.#sources.map(({ peer }) => peer) };
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
    if (this.#parts.shares && wire.isLocal) this.#offerSegment(route, wire);
    return {
      place: (header) => {
        const isOlder = route.wire !== undefined && route.wire !== wire;
        return isOlder ? newerConnection : this.#placeAnswer(header);
      },
      accept: (header, payload) => this.#takeAnswer(route, header, payload),
    };
  }

  /**
   * Gives what takes the frames of `peer`; credits for them go back on `wire`, a first one at once,
   * for nothing: it says that this end listens.
   */
  openIn(peer: number, wire: Wire): FrameSink | Refusal {
    const source = this.#sourceOf(peer);
    const first = source?.queues[0];
    if (source === undefined || first === undefined) {
      return { code: 'peer', text: `process ${peer} is no neighbour` };
    }
    if (source.wire) return { code: 'peer', text: `process ${peer} is connected already` };
    source.wire = wire;
    const { segment, crc } = source;
    const frame = emptyFrame();
    let present = first;
    this.#sendCredit(wire, first.crossing.queue, first.window.back);
    return {
      place: (header) => {
        const { kind, bytes } = header;
        if (kind === frameKinds.refuse) return new Uint8Array(bytes);
        if (kind === frameKinds.segment) return this.#placeOffer(source, wire, header);
        const link = this.#findIncoming(source, header);
        if (!(link instanceof SocketInLink)) return link;
        present = link;
        frame.bytes = bytes;
        frame.generation = header.generation;
        frame.collective = header.collective;
        frame.sequence = header.sequence;
        if (kind === frameKinds.shared) {
          link.placeAt(frame, segment.slot(link.crossing.queue, link.window.count));
          return this.#range(frame.address, bytes);
        }
        const slack = link.place(frame) ? headerBytes : 0;
        return this.#range(frame.address, bytes + slack);
      },
      accept: (header, payload, payloadCrc) => {
        if (header.kind === frameKinds.refuse) return readRefusal(header, payload);
        if (header.kind === frameKinds.segment) return this.#takeSegment(source, wire, payload);
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
    for (const source of this.#sources) source.wire = undefined;
  }

  /** Gives shared memory back, once it has stopped and its connections are closed. */
  close(): void {
    for (const { segment } of this.#routes) segment.close();
    for (const { segment } of this.#sources) segment.close();
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
    if (frame.generation !== this.#parts.generation)
      broken(`a frame of generation ${frame.generation} to be sent`);
    const { count } = link.window;
    link.window.put();
    const header = this.#header;
    const isShared = route.segment.isMapped;
    header.kind = isShared ? frameKinds.shared : frameKinds.tensor;
    header.generation = frame.generation;
    header.collective = frame.collective;
    header.sequence = frame.sequence;
    header.queue = link.crossing.queue;
    header.bytes = frame.bytes;
    header.returned = this.#in[link.crossing.reverse]?.giveBack() ?? 0;
    const { address, bytes } = frame;
    const slot = isShared ? route.segment.slot(link.crossing.queue, count) : 0;
    const crc = isShared ? this.#share(frame, slot) : this.#crcOf(frame);
    encodeHeader(header, crc, route.head);
    const payload = isShared ? undefined : this.#range(address, bytes);
    if (route.wire?.write(route.head.bytes, payload)) link.sent();
    else route.sending = link;
  }

  #crcOf({ address, bytes, crc }: Readonly<Frame>): number {
    return crc === unknownCrc ? this.#crc.of(address, bytes) : crc;
  }

  /** Copies a payload to its slot in a segment, and gives its CRC-32. */
  #share({ address, bytes, crc }: Readonly<Frame>, slot: number): number {
    const { kernels } = this.#parts;
    if (crc !== unknownCrc) {
      kernels.copy(slot, address, bytes / 4);
      return crc;
    }
    this.#crc.begin(address, bytes);
    for (let i = 0; i < bytes; i += cachedBytes) {
      const some = Math.min(cachedBytes, bytes - i);
      kernels.copy(slot + i, address + i, some / 4);
      this.#crc.take(i + some);
    }
    return this.#crc.end();
  }

  #offerSegment(route: Route, wire: Wire): void {
    const offer = route.segment.offer(this.#parts.generation);
    if (typeof offer === 'string') this.#parts.unshared(route.peer, offer);
    else wire.write(offer);
  }

  #placeOffer(
    { segment }: Source,
    { isLocal }: Wire,
    { kind, generation, bytes }: Readonly<FrameHeader>,
  ): Uint8Array | Refusal {
    if (!this.#parts.shares || !isLocal || segment.isMapped) return outOfOrder(kind);
    if (generation !== this.#parts.generation)
      return staleGeneration(generation, this.#parts.generation);
    return new Uint8Array(bytes);
  }

  #takeSegment({ peer, queues, segment }: Source, wire: Wire, offer: Uint8Array): undefined {
    const refused = segment.take(offer);
    if (refused === undefined) for (const { window } of queues) window.narrow(segmentFrames);
    else this.#parts.unshared(peer, refused);
    wire.write(answerFrame(this.#parts.generation, refused === undefined));
  }

  #giveBack(link: SocketInLink | undefined): void {
    if (!link?.isCrowded) return;
    const { peer, queue } = link.crossing;
    const wire = this.#sourceOf(peer)?.wire;
    if (wire) this.#sendCredit(wire, queue, link.giveBack());
  }

  #routeTo(peer: number): Route | undefined {
    return this.#routes.find((it) => it.peer === peer);
  }

  #sourceOf(peer: number): Source | undefined {
    return this.#sources.find((it) => it.peer === peer);
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
    header.generation = this.#parts.generation;
    header.collective = 0;
    header.sequence = 0;
    header.queue = queue;
    header.bytes = 0;
    header.returned = released;
    const record = new HeaderRoom();
    encodeHeader(header, 0, record);
    wire.write(record.bytes);
  }

  #placeAnswer({ kind, generation, bytes }: Readonly<FrameHeader>): Uint8Array | Refusal {
    if (kind === frameKinds.refuse) return new Uint8Array(bytes);
    if (kind !== frameKinds.credit && kind !== frameKinds.mapped) return outOfOrder(kind);
    if (generation !== this.#parts.generation)
      return staleGeneration(generation, this.#parts.generation);
    return bytes === 0 ? noPayload : { code: 'length', text: 'an answer with a payload' };
  }

  #takeAnswer(
    route: Route,
    header: Readonly<FrameHeader>,
    payload: Uint8Array,
  ): Refusal | undefined {
    if (header.kind === frameKinds.refuse) return readRefusal(header, payload);
    if (header.kind === frameKinds.mapped) return this.#takeMapped(route, header.sequence === 1);
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

  /** Whether the other end has mapped the segment that it was offered. */
  #takeMapped({ queues, segment }: Route, isMapped: boolean): Refusal | undefined {
    if (!segment.answered(isMapped)) return outOfOrder(frameKinds.mapped);
    if (isMapped) for (const { window } of queues) window.narrow(segmentFrames);
    return undefined;
  }

  #findIncoming({ peer, segment }: Source, header: Readonly<FrameHeader>): SocketInLink | Refusal {
    const { kind, generation, queue, bytes, returned } = header;
    const { frameBytes } = this.#parts.sizes;
    const isShared = kind === frameKinds.shared && segment.isMapped;
    if (kind !== frameKinds.tensor && !isShared) return outOfOrder(kind);
    if (generation !== this.#parts.generation)
      return staleGeneration(generation, this.#parts.generation);
    const link = this.#in[queue];
    if (link?.crossing.peer !== peer) {
      return { code: 'queue', text: `queue ${queue} does not come from process ${peer}` };
    }
    if (bytes === 0 || bytes % 4 !== 0 || bytes > frameBytes) {
      return { code: 'length', text: `a tensor of ${bytes} bytes, at most ${frameBytes}` };
    }
    if (isShared ? !link.window.hasRoom : link.window.isFull) {
      const name = linkName(this.#parts.hosting.torus, link.crossing.link);
      return { code: 'credit', text: `link ${name}: a frame for which there is no credit` };
    }
    const { reverse } = link.crossing;
    return this.#out[reverse]?.giveBack(returned) ? link : notSent(reverse);
  }
}

function makeRoute(
  peer: number,
  out: readonly Crossing[],
  crc: FrameCrc,
  segment: OutSegment,
): Route {
  const queues: SocketOutLink[] = [];
  const route: Route = {
    ...{ peer, queues, head: new HeaderRoom(), segment },
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

const newerConnection: Refusal = { code: 'peer', text: 'a newer connection has been made' };

const noPayload = new Uint8Array(0);

function notSent(queue: number): Refusal {
  return { code: 'credit', text: `queue ${queue}: frames given back that were not sent` };
}

function outOfOrder(kind: number): Refusal {
  return { code: 'order', text: `a frame of kind ${kind}` };
}

function staleGeneration(found: number, expected: number): Refusal {
  return { code: 'generation', text: `generation ${found}, expected ${expected}` };
}
