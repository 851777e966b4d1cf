import { crc32 } from 'node:zlib';
import { Doorbell } from '../../src/fabric/doorbell.ts';
import type { FabricLayout } from '../../src/fabric/fabric-memory.ts';
import { queueAddress, queueWords, workerLine } from '../../src/fabric/fabric-memory.ts';
import type { FrameCrc } from '../../src/fabric/kernels/crc.ts';
import { frameCrc } from '../../src/fabric/kernels/crc.ts';
import type { Frame } from '../../src/fabric/link.ts';
import { emptyFrame } from '../../src/fabric/link.ts';
import { MemoryInLink, MemoryOutLink } from '../../src/fabric/memory-link.ts';
import { linkName } from '../../src/fabric/torus.ts';
import { assert } from '../../src/numerics/assert.ts';
import type { FrameHeader, FrameSink, Refusal } from './frame.ts';
import { emptyHeader, encodeFrame, encodeHeader, frameKinds, headerBytes } from './frame.ts';
import { readRefusal } from './handshake.ts';
import type { Crossing, Hosting } from './route.ts';
import { crossings, frameBytesMax, pumpWorker, windowBytes } from './route.ts';
import { frameAlign, Window } from './window.ts';
import type { Wire } from './wire.ts';

export interface PumpParts {
  readonly memory: WebAssembly.Memory;
  /** Queues and doorbells of the whole slice, in this process's memory; reset for this epoch. */
  readonly layout: FabricLayout;
  readonly hosting: Hosting;
  /** Byte address of the `receiveBytes(hosting)` bytes into which frames are received. */
  readonly receiveAt: number;
  /** Membership; frames of another one are refused. */
  readonly epoch: number;
}

/** One queue on its way out. */
interface Outgoing extends Crossing {
  readonly source: MemoryInLink;
  readonly window: Window;
}

/** One queue on its way in. */
interface Incoming extends Crossing {
  readonly target: MemoryOutLink;
  readonly window: Window;
  /** Byte address of its ring. */
  readonly ring: number;
  /** Index of the word that counts the frames released by the worker. */
  readonly tail: number;
  /** Whether it is more than half full, so that credit is due once the worker releases. */
  isCrowded: boolean;
}

/** A connection that takes frames to a peer. */
interface Route {
  readonly wire: Wire;
  readonly queues: readonly Outgoing[];
  readonly head: Uint8Array;
  /** Whose frame the kernel has not all of yet. */
  sending: Outgoing | undefined;
  /** Queue that is served first in the next turn. */
  turn: number;
}

/**
 * Carries the links between this process and others: frames that workers put into queues here go
 * out on connections, and frames that come in go into queues here. A frame is released when the
 * kernel has it, is received into a ring of its own queue, and is given back to the sender once the
 * worker has released it: so a slow receiver holds up the sender of that queue and nobody else.
 *
 * It runs on the main thread of its process, for one membership, and sleeps on a doorbell as workers
 * do. All it keeps in memory beyond the rings is one header for each connection.
 */
export class Pump {
  readonly #parts: PumpParts;
  readonly #words: Int32Array;
  readonly #bytes: Buffer;
  readonly #crc: FrameCrc;
  readonly #doorbell: Doorbell;
  /** Index of the word on which it sleeps. */
  readonly #bell: number;
  readonly #out: readonly Outgoing[];
  readonly #in: readonly Incoming[];
  readonly #inByQueue: ReadonlyMap<number, Incoming>;
  readonly #routes: Map<number, Route> = new Map();
  /** Where credits go, by process. */
  readonly #creditors: Map<number, Wire> = new Map();
  readonly #frame: Frame = emptyFrame();
  readonly #header: FrameHeader = emptyHeader();
  #isRunning = false;
  #isPoked = false;

  constructor(parts: PumpParts) {
    const { memory, layout, hosting, receiveAt } = parts;
    assert(receiveAt % frameAlign === 0, `a receive area at ${receiveAt}`);
    this.#parts = parts;
    this.#words = new Int32Array(memory.buffer);
    this.#bytes = Buffer.from(memory.buffer);
    const own = pumpWorker(hosting);
    const { out, in: incoming } = crossings(hosting);
    const scratch = receiveAt + incoming.length * windowBytes;
    this.#crc = frameCrc(memory, scratch, frameBytesMax);
    const doorbell = new Doorbell(memory, layout, own);
    this.#doorbell = doorbell;
    this.#bell = workerLine(layout, own) / 4;
    const end = ({ link, colour, worker }: Crossing) => {
      return { memory, layout, link, colour, doorbell, peer: worker };
    };
    this.#out = out.map((it) => ({
      ...it,
      source: new MemoryInLink(end(it)),
      window: new Window(windowBytes),
    }));
    this.#in = incoming.map((it, index) => ({
      ...it,
      target: new MemoryOutLink(end(it)),
      window: new Window(windowBytes),
      ring: receiveAt + index * windowBytes,
      tail: queueAddress(layout, it.link, it.colour) / 4 + queueWords.tail,
      isCrowded: false,
    }));
    this.#inByQueue = new Map(this.#in.map((it) => [it.queue, it]));
  }

  /** Processes to which frames go, and from which they come. */
  get peers(): { readonly out: readonly number[]; readonly in: readonly number[] } {
    const of = (all: readonly Crossing[]): number[] => [...new Set(all.map((it) => it.peer))];
    return { out: of(this.#out), in: of(this.#in) };
  }

  /** Sends the frames for `peer` on `wire`; gives what takes the credits that come back. */
  openOut(peer: number, wire: Wire): FrameSink | Refusal {
    const queues = this.#out.filter((it) => it.peer === peer);
    if (queues.length === 0) return { code: 'peer', text: `process ${peer} is no neighbour` };
    if (this.#routes.has(peer))
      return { code: 'peer', text: `process ${peer} is connected already` };
    const head = new Uint8Array(headerBytes);
    this.#routes.set(peer, { wire, queues, head, sending: undefined, turn: 0 });
    this.poke();
    return {
      place: (header) => this.#placeCredit(header),
      accept: (header, payload) => this.#takeCredit(peer, header, payload),
      checksum: (payload) => crc32(payload),
    };
  }

  /** Gives what takes the frames of `peer`; credits for them go back on `wire`. */
  openIn(peer: number, wire: Wire): FrameSink | Refusal {
    if (!this.#in.some((it) => it.peer === peer)) {
      return { code: 'peer', text: `process ${peer} is no neighbour` };
    }
    if (this.#creditors.has(peer))
      return { code: 'peer', text: `process ${peer} is connected already` };
    this.#creditors.set(peer, wire);
    let present: Incoming | undefined;
    let address = 0;
    return {
      place: (header) => {
        if (header.kind === frameKinds.refuse) return new Uint8Array(header.bytes);
        const incoming = this.#findIncoming(peer, header);
        if ('code' in incoming) return incoming;
        present = incoming;
        address = incoming.ring + incoming.window.put(header.bytes);
        return this.#bytes.subarray(address, address + header.bytes);
      },
      accept: (header, payload) => {
        if (header.kind === frameKinds.refuse) return readRefusal(header, payload);
        if (present) this.#deliver(present, header, address);
        return undefined;
      },
      checksum: (payload) => this.#checksum(payload),
    };
  }

  /** All that was written on the way to `peer` is with the kernel. */
  drained(peer: number): void {
    const route = this.#routes.get(peer);
    if (route === undefined) return;
    route.sending?.source.release();
    route.sending = undefined;
    this.poke();
  }

  /** Runs until stopped, asleep while there is nothing to do. */
  start(): void {
    this.#isRunning = true;
    this.#spin();
  }

  /** Does not touch the memory again; whoever owns the connections closes them. */
  stop(): void {
    this.#isRunning = false;
    this.#routes.clear();
    this.#creditors.clear();
    Atomics.store(this.#words, this.#bell, 0);
    Atomics.notify(this.#words, this.#bell);
  }

  /** Does all that can be done now, after something has come from outside. */
  poke(): void {
    if (!this.#isRunning) return;
    while (this.step());
  }

  /** Does what can be done in one turn, and says whether that was anything. */
  step(): boolean {
    let moved = false;
    for (const route of this.#routes.values()) if (this.#sendTurn(route)) moved = true;
    for (const incoming of this.#in) {
      if (incoming.isCrowded && this.#giveCredit(incoming)) moved = true;
    }
    this.#doorbell.ring();
    return moved;
  }

  #spin(): void {
    while (this.#isRunning) {
      this.#doorbell.stayAwake();
      this.poke();
      this.#doorbell.prepare();
      if (this.step()) continue;
      const wait = waitAsync(this.#words, this.#bell, asleep);
      if (!wait.async) continue;
      void wait.value.then(() => this.#spin());
      return;
    }
  }

  /** One frame of each queue of a connection, while the kernel takes them. */
  #sendTurn(route: Route): boolean {
    let moved = false;
    for (let i = 0; i < route.queues.length && route.sending === undefined; i++) {
      const outgoing = route.queues[route.turn];
      route.turn = (route.turn + 1) % route.queues.length;
      if (outgoing && this.#send(route, outgoing)) moved = true;
    }
    return moved;
  }

  #send(route: Route, outgoing: Outgoing): boolean {
    const { source, window, queue } = outgoing;
    const frame = this.#frame;
    if (!source.peek(frame) || !window.hasRoom(frame.bytes)) return false;
    assert(frame.epoch === this.#parts.epoch, `a frame of epoch ${frame.epoch} to be sent`);
    window.put(frame.bytes);
    const header = this.#header;
    header.kind = frameKinds.tensor;
    header.epoch = frame.epoch;
    header.collective = frame.collective;
    header.sequence = frame.sequence;
    header.queue = queue;
    header.bytes = frame.bytes;
    const payload = this.#bytes.subarray(frame.address, frame.address + frame.bytes);
    encodeHeader(header, this.#checksum(payload), route.head);
    if (route.wire.write(route.head, payload)) source.release();
    else route.sending = outgoing;
    return true;
  }

  /** Tells the sender what it has got back, once its window is half full. */
  #giveCredit(incoming: Incoming): boolean {
    const { window, tail, target, queue, peer } = incoming;
    const wanted = (window.back + window.crowded) | 0;
    if (!target.isReleased(wanted)) return false;
    const released = Atomics.load(this.#words, tail) >>> 0;
    assert(window.giveBack(released), `queue ${queue}: ${released} frames released`);
    incoming.isCrowded = window.crowded > 0;
    const { epoch } = this.#parts;
    const credit = { ...emptyHeader(), kind: frameKinds.credit, epoch, queue, sequence: released };
    this.#creditors.get(peer)?.write(encodeFrame(credit));
    return true;
  }

  #checksum(payload: Uint8Array): number {
    const isHere = payload.buffer === this.#bytes.buffer;
    return isHere ? this.#crc.of(payload.byteOffset, payload.length) : crc32(payload);
  }

  #placeCredit({ kind, epoch, bytes }: Readonly<FrameHeader>): Uint8Array | Refusal {
    if (kind === frameKinds.refuse) return new Uint8Array(bytes);
    if (kind !== frameKinds.credit) return { code: 'order', text: `a frame of kind ${kind}` };
    if (epoch !== this.#parts.epoch) return staleEpoch(epoch, this.#parts.epoch);
    return bytes === 0 ? noPayload : { code: 'length', text: 'a credit with a payload' };
  }

  #takeCredit(
    peer: number,
    header: Readonly<FrameHeader>,
    payload: Uint8Array,
  ): Refusal | undefined {
    if (header.kind === frameKinds.refuse) return readRefusal(header, payload);
    const { queue, sequence } = header;
    const outgoing = this.#routes.get(peer)?.queues.find((it) => it.queue === queue);
    if (outgoing === undefined) return { code: 'queue', text: `credit for queue ${queue}` };
    if (!outgoing.window.giveBack(sequence)) {
      return { code: 'credit', text: `queue ${queue}: credit for frames that were not sent` };
    }
    this.#pokeSoon();
    return undefined;
  }

  #findIncoming(peer: number, header: Readonly<FrameHeader>): Incoming | Refusal {
    const { kind, epoch, queue, bytes } = header;
    if (kind !== frameKinds.tensor) return { code: 'order', text: `a frame of kind ${kind}` };
    if (epoch !== this.#parts.epoch) return staleEpoch(epoch, this.#parts.epoch);
    const incoming = this.#inByQueue.get(queue);
    if (incoming?.peer !== peer) {
      return { code: 'queue', text: `queue ${queue} does not come from process ${peer}` };
    }
    if (bytes === 0 || bytes % 4 !== 0 || bytes > frameBytesMax) {
      return { code: 'length', text: `a tensor of ${bytes} bytes, at most ${frameBytesMax}` };
    }
    if (incoming.window.hasRoom(bytes)) return incoming;
    const name = linkName(this.#parts.hosting.torus, incoming.link);
    return { code: 'credit', text: `link ${name}: a frame for which there is no credit` };
  }

  #deliver(incoming: Incoming, header: Readonly<FrameHeader>, address: number): void {
    const frame = this.#frame;
    frame.address = address;
    frame.bytes = header.bytes;
    frame.epoch = header.epoch;
    frame.collective = header.collective;
    frame.sequence = header.sequence;
    incoming.target.send(frame);
    incoming.isCrowded ||= incoming.window.crowded > 0;
    this.#pokeSoon();
  }

  /** Once all that the sockets have now has been taken: one wake-up for many frames. */
  #pokeSoon(): void {
    if (this.#isPoked) return;
    this.#isPoked = true;
    setImmediate(() => {
      this.#isPoked = false;
      this.poke();
    });
  }
}

const asleep = 1;
const noPayload = new Uint8Array(0);

function staleEpoch(found: number, expected: number): Refusal {
  return { code: 'epoch', text: `epoch ${found}, expected ${expected}` };
}

/** ES2024: like `Atomics.wait`, for a thread that must not block. */
interface AsyncWaits {
  waitAsync(
    words: Int32Array,
    index: number,
    value: number,
  ):
    | { readonly async: false; readonly value: 'not-equal' | 'timed-out' }
    | { readonly async: true; readonly value: Promise<'ok' | 'timed-out'> };
}

const { waitAsync } = Atomics as unknown as AsyncWaits;
