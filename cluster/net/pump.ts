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
  /** Generation of the membership. Frames of any other generation are refused. */
  readonly generation: number;
  /** True if payloads may go through memory that is shared with peers on this host. */
  readonly shares: boolean;
  /**
   * Called when shared memory with the process `peer` cannot be set up. `cause` is the reason.
   * Payloads then go through the socket.
   */
  readonly unshared: (peer: number, cause: string) => void;
}

/**
 * User of the links, such as the all-reduce. It takes incoming frames from the links, and gives
 * outgoing frames to them.
 */
export interface Driven {
  /** Does all work that is possible without waiting. */
  progress(): void;
}

/** One end of a route: the fields that {@link Pump.beat} uses. */
interface Heard {
  readonly peer: number;
  wire: Wire | undefined;
  /** Number of calls of {@link Pump.beat} since the last frame of any kind arrived on the route. */
  silentBeats: number;
}

/**
 * How many calls of {@link Pump.beat} may pass in succession without a frame from a peer. At the
 * next call without a frame, `beat` returns the peer.
 */
export const silentBeatsMax = 10;

/**
 * Outgoing route to a peer: all queues to that peer, and the connection that carries their frames.
 */
interface Route extends Outbox, Heard {
  readonly queues: readonly SocketOutLink[];
  readonly head: HeaderRoom;
  readonly segment: OutSegment;
  wire: Wire | undefined;
  /**
   * True if a credit has arrived on `wire`. A credit is the peer's report of released frames; the
   * first credit shows that the peer listens. Before that, no tensor is sent.
   */
  isHeard: boolean;
  /**
   * Queue whose frame is being written to `wire`, while the kernel has not taken all bytes of the
   * frame. Undefined if no frame is being written.
   */
  sending: SocketOutLink | undefined;
  /**
   * Index in `queues` of the queue that may send next. The queues take turns, one frame each. So a
   * queue with many frames does not delay the other queues.
   */
  turn: number;
}

/**
 * Incoming route from a peer: all queues from that peer, and the connection that carries their
 * frames.
 */
interface Source extends Heard {
  readonly queues: readonly SocketInLink[];
  readonly crc: FrameCrc;
  readonly segment: InSegment;
  /**
   * Connection on which frames from the peer arrive and credits go back to the peer. Undefined
   * before the connection opens and after the pump has stopped.
   */
  wire: Wire | undefined;
}

/**
 * Links between this process and other processes, for all-reduces that run on the same thread.
 * There is one pump for each membership.
 *
 * - Sending: a payload goes from the memory of the emulator to the connection. If the peer shares a
 *   segment of memory with this process, the payload is copied to the segment instead, and only the
 *   header goes through the connection. When the operating system has taken the frame, the
 *   all-reduce may overwrite the payload.
 * - Receiving: a payload goes from the socket to the address that an all-reduce has announced. If
 *   no address was announced, the payload goes into a receive buffer, called slot.
 * - Credit: in every queue, only a limited number of frames may be sent and not yet released by the
 *   receiver. So a slow receiver stops the sender of that queue, and no other sender. The receiver
 *   reports how many frames it has released. The report is in each tensor frame of the queue in the
 *   opposite direction. If the sender must soon stop and there is no tensor frame to carry the
 *   report, the receiver sends it in a credit frame.
 */
export class Pump {
  readonly #parts: PumpParts;
  readonly #bytes: Buffer;
  /** Computes the CRC-32 of outgoing payloads. */
  readonly #crc: FrameCrc;
  readonly #routes: readonly Route[];
  readonly #sources: readonly Source[];
  /**
   * Queues to other processes (`#out`) and from other processes (`#in`). The position in the array
   * is the index of the queue. The entry is undefined if both ends of the queue are in this
   * process, or both are in other processes.
   */
  readonly #out: readonly (SocketOutLink | undefined)[];
  readonly #in: readonly (SocketInLink | undefined)[];
  /**
   * Incoming queues whose sender must soon stop, because too many of its frames are not yet
   * reported as released. At the end of `step`, the pump sends a credit, which is such a report,
   * for each of these queues. If a tensor frame has carried the report in the meantime, no credit
   * is sent.
   */
  readonly #due: SocketInLink[] = [];
  readonly #driven: Driven[] = [];
  readonly #header: FrameHeader = emptyHeader();
  /**
   * Cache of views of the emulator's memory. The outer key is the length of the view in bytes; the
   * inner key is its byte address. The same views are used for many frames, so the cache saves
   * creating a view for each frame.
   */
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
      return { peer, queues, crc, segment, wire: undefined, silentBeats: 0 };
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

  /** Numbers of the processes to which frames go (`out`) and from which frames come (`in`). */
  get peers(): { readonly out: readonly number[]; readonly in: readonly number[] } {
    return { out: this.#routes.map(({ peer }) => peer), in: this.#sources.map(({ peer }) => peer) };
  }

  /**
   * Returns the ends of links that are in this process. If the other end of a link is in another
   * process, the pump provides the end in this process. If both ends are in this process, `local`
   * provides both.
   */
  links(local: Links): Links {
    return {
      out: (link, colour): OutLink => this.#out[link * colours + colour] ?? local.out(link, colour),
      in: (link, colour): InLink => this.#in[link * colours + colour] ?? local.in(link, colour),
    };
  }

  /**
   * Returns one pair for each queue to another process: the index of the link, and the number of
   * payload bytes that the queue has taken for sending so far. A link has two queues, so the index
   * of a link occurs in two pairs.
   */
  sentBytes(): readonly (readonly [link: number, bytes: number])[] {
    return this.#out.flatMap((it) => (it ? [[it.crossing.link, it.bytes] as const] : []));
  }

  /**
   * Registers a user of the links. Every `step` of the pump calls `progress` of each registered
   * user.
   */
  drive(driven: Driven): void {
    this.#driven.push(driven);
  }

  /**
   * From now on, sends the frames to `peer` on `wire`. Sends no tensor before a credit of `peer`
   * has arrived; a credit is a frame that reports how many tensors the peer has released. Returns
   * the sink for the frames that come back from `peer`, such as credits.
   *
   * If `peer` has an earlier connection on which no credit has arrived, `wire` replaces that
   * connection. If a credit has arrived on the earlier connection, returns a refusal with the code
   * `peer`. Also returns this refusal if no link leads to `peer`.
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
        route.silentBeats = 0;
        return isOlder ? newerConnection : this.#placeAnswer(header);
      },
      accept: (header, payload) => this.#takeAnswer(route, header, payload),
    };
  }

  /**
   * From now on, receives the frames from `peer` on `wire` and sends credits to `peer` on it. A
   * credit is a frame that reports how many tensors this process has released. Sends a first credit
   * at once, to tell `peer` that this end listens. Returns the sink for the frames from `peer`.
   *
   * If `peer` is connected already, or if no link comes from `peer`, returns a refusal with the
   * code `peer`.
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
        source.silentBeats = 0;
        if (kind === frameKinds.refuse) return new Uint8Array(bytes);
        if (kind === frameKinds.alive) return this.#placeAnswer(header);
        if (kind === frameKinds.sent) return this.#checkCount(source, header) ?? noPayload;
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
        if (header.kind === frameKinds.alive || header.kind === frameKinds.sent) return undefined;
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

  /**
   * Called when `wire`, a connection that carried frames to `peer`, has closed. Returns true if no
   * frame is lost: either another connection has replaced `wire`, or no credit had arrived on
   * `wire` and so no tensor was sent on it. Otherwise returns false.
   */
  closedOut(peer: number, wire: Wire): boolean {
    const route = this.#routeTo(peer);
    if (route?.wire !== wire) return true;
    if (route.isHeard) return false;
    route.wire = undefined;
    return true;
  }

  /**
   * Called once a second. Tells each connected peer that this process lives, and how many frames
   * this process has sent through each queue. From these numbers a peer notices that a frame is
   * lost, even if no later frame arrives.
   *
   * Returns the peers from which no frame has arrived during more than {@link silentBeatsMax}
   * calls. Calls during which a peer has no connection count only if `isWaiting` is true: an
   * all-reduce then waits for peers.
   */
  beat(isWaiting: boolean): readonly number[] {
    const ends: readonly Heard[] = [...this.#routes, ...this.#sources];
    for (const { sending, wire, queues } of this.#routes) {
      if (wire === undefined || sending !== undefined) continue;
      this.#sendAlive(wire);
      this.#sendCounts(wire, queues);
    }
    for (const { wire } of this.#sources) if (wire !== undefined) this.#sendAlive(wire);
    const silent = ends.filter((end) => {
      end.silentBeats = end.wire !== undefined || isWaiting ? end.silentBeats + 1 : 0;
      return end.silentBeats > silentBeatsMax;
    });
    return [...new Set(silent.map(({ peer }) => peer))];
  }

  /**
   * Called when the kernel has taken all bytes that were written to `wire`, a connection to `peer`.
   * Releases the frame to which these bytes belong.
   */
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

  /**
   * Stops the pump: it sends nothing more and no longer calls the users of the links. The
   * connections stay open, and their sinks still write received payloads to memory, until the owner
   * of the connections closes them.
   */
  stop(): void {
    this.#isRunning = false;
    for (const route of this.#routes) route.wire = undefined;
    for (const source of this.#sources) source.wire = undefined;
  }

  /**
   * Unmaps all segments (shared memory). The caller must first stop the pump and close the
   * connections of the pump.
   */
  close(): void {
    for (const { segment } of this.#routes) segment.close();
    for (const { segment } of this.#sources) segment.close();
  }

  /**
   * Does all work that is possible without waiting. Callers call `poke` after every event that may
   * bring work. Does nothing if the pump is stopped, or if the pump is already at work.
   */
  poke(): void {
    if (!this.#isRunning || this.#isStepping) return;
    this.#isStepping = true;
    try {
      while (this.step());
    } finally {
      this.#isStepping = false;
    }
  }

  /**
   * Lets the users of the links make progress, sends their frames, and sends the credits that are
   * due. Returns true if a frame was sent; another call may then find more work.
   */
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

  /**
   * Sends frames to the peer of `route`, one frame from each queue in turn, until no queue may send
   * or the kernel takes no more bytes. Returns true if at least one frame was sent.
   */
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
    // Nothing more can be sent now. `isReady` becomes true again when a queue has a new frame, a
    // credit arrives, or the kernel has taken the frame that is being sent.
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

  /**
   * Copies a payload into a slot of the segment (shared memory), and returns the CRC-32 of the
   * payload.
   */
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

  #sendAlive(wire: Wire): void {
    this.#sendSmall(wire, frameKinds.alive, 0, 0);
  }

  /**
   * For each queue with frames that the peer has not reported as released: sends how many frames
   * this process has sent through the queue so far.
   */
  #sendCounts(wire: Wire, queues: readonly SocketOutLink[]): void {
    for (const { window, crossing } of queues) {
      if (window.frames > 0) this.#sendSmall(wire, frameKinds.sent, crossing.queue, window.count);
    }
  }

  #sendCredit(wire: Wire, queue: number, released: number): void {
    this.#sendSmall(wire, frameKinds.credit, queue, released);
  }

  /** Sends a frame without a payload. */
  #sendSmall(wire: Wire, kind: FrameHeader['kind'], queue: number, count: number): void {
    const header = this.#header;
    header.kind = kind;
    header.generation = this.#parts.generation;
    header.collective = 0;
    header.sequence = 0;
    header.queue = queue;
    header.bytes = 0;
    header.returned = count;
    const record = new HeaderRoom();
    encodeHeader(header, 0, record);
    wire.write(record.bytes);
  }

  #placeAnswer({ kind, generation, bytes }: Readonly<FrameHeader>): Uint8Array | Refusal {
    if (kind === frameKinds.refuse) return new Uint8Array(bytes);
    if (!isAnswer(kind)) return outOfOrder(kind);
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
    if (header.kind === frameKinds.alive) return undefined;
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

  /**
   * Handles the answer of the peer to the offer of a segment (shared memory). `isMapped` is true if
   * the peer has mapped the segment. Returns a refusal with the code `order` if no offer waits for
   * an answer, otherwise undefined.
   */
  #takeMapped({ queues, segment }: Route, isMapped: boolean): Refusal | undefined {
    if (!segment.answered(isMapped)) return outOfOrder(frameKinds.mapped);
    if (isMapped) for (const { window } of queues) window.narrow(segmentFrames);
    return undefined;
  }

  /**
   * Compares how many frames the sender has sent through a queue with how many have arrived. The
   * connection keeps the order of frames, so the sender's number arrives after all frames that it
   * counts. If the numbers differ, a frame was lost, doubled or delayed.
   */
  #checkCount({ peer }: Source, header: Readonly<FrameHeader>): Refusal | undefined {
    const { generation, queue, bytes, returned } = header;
    if (generation !== this.#parts.generation)
      return staleGeneration(generation, this.#parts.generation);
    const link = this.#incomingFrom(peer, queue);
    if (!(link instanceof SocketInLink)) return link;
    if (bytes > 0) return { code: 'length', text: 'a count with a payload' };
    const { count } = link.window;
    if (count === returned) return undefined;
    const name = linkName(this.#parts.hosting.torus, link.crossing.link);
    return { code: 'lost', text: `link ${name}: ${returned} frames were sent, ${count} arrived` };
  }

  /**
   * Returns the queue with the index `queue`. If this queue does not come from `peer`, returns a
   * refusal.
   */
  #incomingFrom(peer: number, queue: number): SocketInLink | Refusal {
    const link = this.#in[queue];
    return link?.crossing.peer === peer
      ? link
      : { code: 'queue', text: `queue ${queue} does not come from process ${peer}` };
  }

  #findIncoming({ peer, segment }: Source, header: Readonly<FrameHeader>): SocketInLink | Refusal {
    const { kind, generation, queue, bytes, returned } = header;
    const { frameBytes } = this.#parts.sizes;
    const isShared = kind === frameKinds.shared && segment.isMapped;
    if (kind !== frameKinds.tensor && !isShared) return outOfOrder(kind);
    if (generation !== this.#parts.generation)
      return staleGeneration(generation, this.#parts.generation);
    const link = this.#incomingFrom(peer, queue);
    if (!(link instanceof SocketInLink)) return link;
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
    silentBeats: 0,
  };
  for (const it of out) if (it.peer === peer) queues.push(new SocketOutLink(it, route, crc));
  return route;
}

/**
 * Returns an array with one entry for each queue of the torus, in the order of their indices. The
 * entry is the element of `links` that belongs to the queue, or undefined if there is none.
 */
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

function isAnswer(kind: FrameHeader['kind']): boolean {
  return kind === frameKinds.credit || kind === frameKinds.mapped || kind === frameKinds.alive;
}

function notSent(queue: number): Refusal {
  return { code: 'credit', text: `queue ${queue}: released more frames than were sent` };
}

function outOfOrder(kind: number): Refusal {
  return { code: 'order', text: `an unexpected frame of kind ${kind}` };
}

function staleGeneration(found: number, expected: number): Refusal {
  return { code: 'generation', text: `generation ${found}, expected ${expected}` };
}
