import { abortFabric } from '../../src/fabric/doorbell.ts';
import { resetEngine } from '../../src/fabric/engine.ts';
import { resetFabric, sentBytes } from '../../src/fabric/fabric-memory.ts';
import { placement } from '../../src/fabric/torus.ts';
import { at } from '../../src/numerics/assert.ts';
import type { FrameSink, Refusal } from '../net/frame.ts';
import type { Hello } from '../net/handshake.ts';
import type { Hosting } from '../net/route.ts';
import { StateSender } from '../net/state.ts';
import { type TakeOptions, type Taking, takeState } from '../net/take-state.ts';
import {
  connectTensors,
  listenTensors,
  type TensorClient,
  type TensorOffer,
  type TensorServer,
} from '../net/tensor-socket.ts';
import type { Token } from '../net/token.ts';
import type { Wire } from '../net/wire.ts';
import { Ici } from './ici.ts';
import type { ProcessLayout } from './layout.ts';

export interface CarrierParts {
  readonly memory: WebAssembly.Memory;
  readonly layout: ProcessLayout;
  readonly hosting: Hosting;
  readonly token: Token;
  readonly host: string;
  readonly port: number;
  /** Where it listens for others of this host besides; undefined where no folder takes a socket. */
  readonly unixPath: string | undefined;
  /** The parameters of a program after so many steps, in place, if they are at hand. */
  readonly stateOf: (program: number, steps: number) => readonly Uint8Array[] | undefined;
  /** Payloads from or to a peer on this host go through a socket, not through shared memory: why. */
  readonly unshared: (peer: number, cause: string) => void;
  /** The connection with a peer has ended in the middle of a membership. */
  readonly trouble: (peer: number, refusal: Refusal) => void;
}

/** What is to be taken from whom, and where it goes. */
export type TakeParts = Omit<TakeOptions, 'token' | 'self'>;

/** How long to wait before connecting again to a peer that is not in this membership yet, in ms. */
const retryMs = 50;

/** Carries the links of this process's Cloud TPU to and from its neighbours, membership after membership. */
export class Carrier {
  readonly #parts: CarrierParts;
  readonly #carried: Float64Array;
  readonly #clients: Map<number, TensorClient> = new Map();
  /** Connections that take parameters from here, and those that bring parameters of others. */
  readonly #senders: Map<Wire, StateSender> = new Map();
  readonly #takings: Set<Taking> = new Set();
  #server: TensorServer | undefined;
  #ici: Ici | undefined;
  #generation = 0;

  constructor(parts: CarrierParts) {
    this.#parts = parts;
    this.#carried = sentBytes(parts.memory, parts.layout.fabric);
  }

  /** Listens; gives the port. Throws `io` when the address cannot be had. */
  async listen(): Promise<number> {
    const { token, host, port, unixPath } = this.#parts;
    this.#server = await listenTensors({
      ...{ token, host, port },
      ...(unixPath !== undefined && { unixPath }),
      admit: ({ generation }) =>
        generation === this.#generation ? undefined : this.#stale(generation),
      open: (hello, wire) => this.#openOut(hello, wire),
      drained: (hello, wire) => this.#drained(hello, wire),
      closed: (hello, refusal, wire) => this.#closedOut(hello, refusal, wire),
      turnedAway: () => undefined,
    });
    return this.#server.port;
  }

  /** Begins a membership, while nobody runs: links are new, and lead to `offers` by Cloud TPU. */
  begin(generation: number, offers: readonly TensorOffer[]): void {
    const { memory, layout, hosting, unshared } = this.#parts;
    this.#leave();
    this.#sent().forEach((bytes, link) => {
      this.#carried[link] = bytes;
    });
    resetFabric(memory, layout.fabric);
    resetEngine(memory, layout.engine);
    this.#generation = generation;
    const ici = new Ici({ memory, layout, hosting, generation, shares: true, unshared });
    this.#ici = ici;
    ici.start();
    for (const peer of ici.pump.peers.in) this.#connect(peer, generation, at(offers, peer));
  }

  /** Ends every wait of the worker. The links move nothing any more. */
  abort(): void {
    this.#ici?.stop();
    abortFabric(this.#parts.memory, this.#parts.layout.fabric);
  }

  /**
   * Fills `into` with the parameters of a program after `steps` steps, from another Cloud TPU in the
   * same membership. Rejects with a `PodError` that names it.
   */
  async take(what: TakeParts): Promise<void> {
    const { token, hosting } = this.#parts;
    const taking = takeState({ ...what, token, self: hosting.self });
    this.#takings.add(taking);
    try {
      await taking.done;
    } finally {
      this.#takings.delete(taking);
    }
  }

  /** Another membership is to begin: what is being taken in the present one ends at once. */
  giveUpTakings(): void {
    for (const taking of this.#takings) taking.cancel();
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

  async close(): Promise<void> {
    this.#leave();
    await this.#server?.close();
  }

  #leave(): void {
    this.#generation = 0;
    const ici = this.#ici;
    ici?.stop();
    this.#ici = undefined;
    for (const client of this.#clients.values()) client.close();
    this.#clients.clear();
    this.giveUpTakings();
    this.#server?.drop();
    ici?.close();
  }

  #sent(): Float64Array {
    const { memory, layout } = this.#parts;
    const sent = sentBytes(memory, layout.fabric);
    for (const [link, bytes] of this.#ici?.pump.sentBytes() ?? []) {
      sent[link] = at(sent, link) + bytes;
    }
    return sent.map((bytes, link) => bytes + at(this.#carried, link));
  }

  #connect(peer: number, generation: number, offer: TensorOffer): void {
    const { token, hosting } = this.#parts;
    let isOpen = false;
    const client = connectTensors({
      token,
      offer,
      hello: { channel: 'tensor', from: hosting.self, to: peer, generation },
      open: (wire) => {
        isOpen = true;
        return this.#ici?.pump.openIn(peer, wire) ?? this.#stale(generation);
      },
      closed: (refusal) => {
        if (isOpen) this.#closed(peer, generation, refusal);
        else setTimeout(() => this.#retry(peer, generation, offer), retryMs).unref();
      },
    });
    this.#clients.set(peer, client);
  }

  #retry(peer: number, generation: number, offer: TensorOffer): void {
    if (generation === this.#generation) this.#connect(peer, generation, offer);
  }

  #openOut({ channel, from, generation }: Hello, wire: Wire): FrameSink | Refusal {
    if (channel !== 'state') return this.#ici?.pump.openOut(from, wire) ?? this.#stale(generation);
    const { stateOf } = this.#parts;
    const sender = new StateSender(wire, generation, ({ program, steps }) =>
      stateOf(program, steps),
    );
    this.#senders.set(wire, sender);
    return sender;
  }

  #drained({ channel, from }: Hello, wire: Wire): void {
    if (channel === 'state') this.#senders.get(wire)?.drained();
    else this.#ici?.pump.drained(from, wire);
  }

  /** One that nothing has gone over is of no account: its peer connects again. */
  #closedOut({ channel, from, generation }: Hello, refusal: Refusal | undefined, wire: Wire): void {
    this.#senders.get(wire)?.close();
    this.#senders.delete(wire);
    if (channel === 'state') return;
    if (this.#ici?.pump.closedOut(from, wire) === false) this.#closed(from, generation, refusal);
  }

  #closed(peer: number, generation: number, refusal: Refusal | undefined): void {
    if (generation !== this.#generation) return;
    this.#parts.trouble(peer, refusal ?? { code: 'peer', text: 'the connection has ended' });
  }

  #stale(generation: number): Refusal {
    return { code: 'generation', text: `generation ${generation}, now ${this.#generation}` };
  }
}
