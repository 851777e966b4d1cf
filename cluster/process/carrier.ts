import { abortFabric } from '../../src/fabric/doorbell.ts';
import { resetFabric, sentBytes, workerLine } from '../../src/fabric/fabric-memory.ts';
import { placement } from '../../src/fabric/torus.ts';
import { at } from '../../src/numerics/assert.ts';
import type { FrameSink, Refusal } from '../net/frame.ts';
import { Pump } from '../net/pump.ts';
import { type Hosting, pumpWorker } from '../net/route.ts';
import {
  connectTensors,
  listenTensors,
  type TensorClient,
  type TensorOffer,
  type TensorServer,
} from '../net/tensor-socket.ts';
import type { Token } from '../net/token.ts';
import type { Wire } from '../net/wire.ts';
import type { ProcessLayout } from './layout.ts';

export interface CarrierParts {
  readonly memory: WebAssembly.Memory;
  readonly layout: ProcessLayout;
  readonly hosting: Hosting;
  readonly token: Token;
  readonly host: string;
  readonly port: number;
  readonly unixPath: string;
  /** The connection with a peer has ended in the middle of a membership. */
  readonly trouble: (peer: number, refusal: Refusal) => void;
}

/** How long to wait before connecting again to a peer that is not in this membership yet, in ms. */
const retryMs = 50;

/** Carries the links of this process's Cloud TPU to and from its neighbours, membership after membership. */
export class Carrier {
  readonly #parts: CarrierParts;
  readonly #carried: Float64Array;
  readonly #clients: Map<number, TensorClient> = new Map();
  #server: TensorServer | undefined;
  #pump: Pump | undefined;
  #epoch = 0;

  constructor(parts: CarrierParts) {
    this.#parts = parts;
    this.#carried = sentBytes(parts.memory, parts.layout.fabric);
  }

  /** Listens; gives the port. Throws `io` when the address cannot be had. */
  async listen(): Promise<number> {
    const { token, host, port, unixPath } = this.#parts;
    this.#server = await listenTensors({
      ...{ token, host, port, unixPath },
      admit: ({ epoch }) => (epoch === this.#epoch ? undefined : this.#stale(epoch)),
      open: (hello, wire) => this.#openOut(hello.from, wire),
      drained: (hello) => this.#pump?.drained(hello.from),
      closed: (hello, refusal) => this.#closed(hello.from, hello.epoch, refusal),
      turnedAway: () => undefined,
    });
    return this.#server.port;
  }

  /** Begins a membership, while nobody runs: links are new, and lead to `offers` by Cloud TPU. */
  begin(epoch: number, offers: readonly TensorOffer[]): void {
    const { memory, layout, hosting } = this.#parts;
    this.#leave();
    this.#sent().forEach((bytes, link) => {
      this.#carried[link] = bytes;
    });
    resetFabric(memory, layout.fabric);
    this.#epoch = epoch;
    if (hosting.torus.workers === 1) return;
    const { fabric, receiveAt } = layout;
    const pump = new Pump({ memory, layout: fabric, hosting, receiveAt, epoch });
    this.#pump = pump;
    pump.start();
    this.#relayRings(pump);
    for (const peer of pump.peers.in) this.#connect(peer, epoch, at(offers, peer));
  }

  /** Ends every wait of the worker. */
  abort(): void {
    abortFabric(this.#parts.memory, this.#parts.layout.fabric);
  }

  /** Bytes sent so far on each link of this Cloud TPU: link number, bytes, …. At rest only. */
  sentPairs(): number[] {
    const { torus, self } = this.#parts.hosting;
    const pairs: number[] = [];
    this.#sent().forEach((bytes, link) => {
      if (placement(torus, link >> 2).worker === self) pairs.push(link, bytes);
    });
    return pairs;
  }

  /** TEMPORARY seam until the state channel lands. */
  async take(_: {
    offer: TensorOffer;
    peer: number;
    epoch: number;
    program: number;
    steps: number;
    into: readonly Uint8Array[];
  }): Promise<void> {
    throw new Error('no state channel');
  }

  async close(): Promise<void> {
    this.#leave();
    await this.#server?.close();
  }

  #leave(): void {
    this.#epoch = 0;
    this.#pump?.stop();
    this.#pump = undefined;
    for (const client of this.#clients.values()) client.close();
    this.#clients.clear();
    this.#server?.drop();
  }

  #sent(): Float64Array {
    const { memory, layout } = this.#parts;
    return sentBytes(memory, layout.fabric).map((bytes, link) => bytes + at(this.#carried, link));
  }

  /**
   * The worker rings whoever is at the far end of a link; in this process that is the pump for all,
   * which sleeps on the bell of one of them only.
   */
  #relayRings(pump: Pump): void {
    const { memory, layout, hosting } = this.#parts;
    const own = pumpWorker(hosting);
    const words = new Int32Array(memory.buffer);
    const peers = new Set([...pump.peers.in, ...pump.peers.out]);
    for (const peer of peers) {
      if (peer === own) continue;
      void this.#relayRing(pump, words, workerLine(layout.fabric, peer) / 4);
    }
  }

  async #relayRing(pump: Pump, words: Int32Array, bell: number): Promise<void> {
    while (this.#pump === pump) {
      Atomics.store(words, bell, asleep);
      pump.poke();
      const wait = waitAsync(words, bell, asleep, relayMsMax);
      if (wait.async) await wait.value;
    }
  }

  #connect(peer: number, epoch: number, offer: TensorOffer): void {
    const { token, hosting } = this.#parts;
    let isOpen = false;
    const client = connectTensors({
      token,
      offer,
      hello: { from: hosting.self, to: peer, epoch },
      open: (wire) => {
        isOpen = true;
        return this.#pump?.openIn(peer, wire) ?? this.#stale(epoch);
      },
      closed: (refusal) => {
        if (isOpen) this.#closed(peer, epoch, refusal);
        else setTimeout(() => this.#retry(peer, epoch, offer), retryMs).unref();
      },
    });
    this.#clients.set(peer, client);
  }

  #retry(peer: number, epoch: number, offer: TensorOffer): void {
    if (epoch === this.#epoch) this.#connect(peer, epoch, offer);
  }

  #openOut(peer: number, wire: Wire): FrameSink | Refusal {
    return this.#pump?.openOut(peer, wire) ?? this.#stale(this.#epoch);
  }

  #closed(peer: number, epoch: number, refusal: Refusal | undefined): void {
    if (epoch !== this.#epoch) return;
    this.#parts.trouble(peer, refusal ?? { code: 'peer', text: 'the connection has ended' });
  }

  #stale(epoch: number): Refusal {
    return { code: 'epoch', text: `epoch ${epoch}, now ${this.#epoch}` };
  }
}

const asleep = 1;
/** A relay looks this often whether its membership is over, in ms. */
const relayMsMax = 500;

/** ES2024: like `Atomics.wait`, for a thread that must not block. */
interface AsyncWaits {
  waitAsync(
    words: Int32Array,
    index: number,
    value: number,
    timeoutMs: number,
  ):
    | { readonly async: false; readonly value: 'not-equal' | 'timed-out' }
    | { readonly async: true; readonly value: Promise<'ok' | 'timed-out'> };
}

const { waitAsync } = Atomics as unknown as AsyncWaits;
