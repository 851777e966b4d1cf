import { abortFabric } from '../../src/fabric/doorbell.ts';
import { resetEngine } from '../../src/fabric/engine.ts';
import { resetFabric, sentBytes } from '../../src/fabric/fabric-memory.ts';
import type { OnHop } from '../../src/fabric/lane.ts';
import { placement } from '../../src/fabric/torus.ts';
import { at } from '../../src/numerics/assert.ts';
import { FaultyWire } from '../net/faulty-wire.ts';
import type { FrameSink, Refusal } from '../net/frame.ts';
import type { Hello } from '../net/handshake.ts';
import type { LinkFaults } from '../net/link-faults.ts';
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
import { ended, unheard } from '../net/trouble.ts';
import type { Wire } from '../net/wire.ts';
import { Ici } from './ici.ts';
import type { ProcessLayout } from './layout.ts';

/** Constructor arguments of a {@link Carrier}. */
export interface CarrierOptions {
  readonly memory: WebAssembly.Memory;
  readonly layout: ProcessLayout;
  readonly hosting: Hosting;
  readonly token: Token;
  readonly host: string;
  readonly port: number;
  /**
   * Path of the unix socket on which the carrier also listens, for peers on the same host.
   * Undefined if there is no folder in which this process can make a socket.
   */
  readonly unixPath: string | undefined;
  /**
   * Returns views of a program's parameters after `steps` steps, without copying. Returns undefined
   * if this process does not have the parameters after that number of steps.
   */
  readonly stateOf: (program: number, steps: number) => readonly Uint8Array[] | undefined;
  /**
   * Called when shared memory with a peer on this host cannot be set up, so that payloads go
   * through a socket. `cause` is the reason.
   */
  readonly unshared: (peer: number, cause: string) => void;
  /**
   * Faults of links, which the carrier injects. Undefined if the fault plan has no fault of any
   * link of the slice. If it is defined, no memory is shared with peers, because payloads in shared
   * memory would not meet the faults.
   */
  readonly linkFaults?: LinkFaults | undefined;
  /** Called when the connection with a peer ends although the membership goes on. */
  readonly trouble: (peer: number, refusal: Refusal) => void;
  /**
   * Called before each hop of an all-reduce, to inject faults. A hop receives a frame, sends a
   * frame, or does both. Undefined if no fault plan has a fault for this Cloud TPU.
   */
  readonly onHop?: OnHop;
}

/**
 * Description of one transfer of parameters: the peer, the program, after how many steps the
 * parameters are wanted, and the memory that receives the parameters.
 */
export type TakeParts = Omit<TakeOptions, 'token' | 'self'>;

/**
 * Wait in ms before the next attempt to connect to a peer. A peer that has not entered this
 * membership yet refuses the connection.
 */
const retryMs = 50;

/**
 * Connects the links of one Cloud TPU to its neighbours over sockets, and transfers parameters
 * between processes. The carrier of a Cloud TPU exists for several memberships: `begin` replaces
 * all connections for each new membership.
 */
export class Carrier {
  readonly #parts: CarrierOptions;
  /** Bytes sent in earlier memberships, one entry for each link. */
  readonly #carried: Float64Array;
  readonly #clients: Map<number, TensorClient> = new Map();
  /**
   * For each wire to a peer: the object through which the pump writes to the wire, and which
   * injects the faults of the fault plan.
   */
  readonly #faultyWires: WeakMap<Wire, FaultyWire> = new WeakMap();
  /**
   * For each connection that carries parameters: the object that sends this Cloud TPU's parameters
   * to the peer.
   */
  readonly #senders: Map<Wire, StateSender> = new Map();
  /** Transfers under way that bring parameters of a peer to this Cloud TPU. */
  readonly #takings: Set<Taking> = new Set();
  #server: TensorServer | undefined;
  #ici: Ici | undefined;
  #generation = 0;

  constructor(parts: CarrierOptions) {
    this.#parts = parts;
    this.#carried = sentBytes(parts.memory, parts.layout.fabric);
  }

  /** Listens for peers and returns the TCP port. Throws `io` if the address cannot be bound. */
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

  /**
   * Begins a membership: empties the links and connects to the peers. `offers[t]`: addresses at
   * which Cloud TPU t accepts connections from peers. Call only while no core runs a step.
   */
  begin(generation: number, offers: readonly TensorOffer[]): void {
    const { memory, layout, hosting, unshared, onHop } = this.#parts;
    this.#leave();
    this.#sent().forEach((bytes, link) => {
      this.#carried[link] = bytes;
    });
    resetFabric(memory, layout.fabric);
    resetEngine(memory, layout.engine);
    this.#generation = generation;
    const shares = this.#parts.linkFaults === undefined;
    const parts = { memory, layout, hosting, generation, shares, unshared };
    const silent = (peer: number): void => this.#closed(peer, generation, unheard);
    const ici = new Ici({ ...parts, silent, ...(onHop && { onHop }) });
    this.#ici = ici;
    ici.start();
    for (const peer of ici.pump.peers.in) this.#connect(peer, generation, at(offers, peer));
  }

  /**
   * Stops the links and ends every wait of this process's cores for a neighbour. Until the next
   * `begin`, new waits end at once.
   */
  abort(): void {
    this.#ici?.stop();
    abortFabric(this.#parts.memory, this.#parts.layout.fabric);
  }

  /**
   * Fills `what.into` with a program's parameters after `what.steps` steps, copied from Cloud TPU
   * `what.peer` in the same membership. Rejects with a `PodError` that names the peer.
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

  /** Cancels all transfers of parameters to this Cloud TPU, because a new membership begins. */
  giveUpTakings(): void {
    for (const taking of this.#takings) taking.cancel();
  }

  /**
   * Returns the bytes sent so far on each link of this Cloud TPU, as a flat array: index of a link,
   * bytes, index of the next link, bytes, …. Call only between steps.
   */
  sentPairs(): number[] {
    const { torus, self } = this.#parts.hosting;
    const pairs: number[] = [];
    this.#sent().forEach((bytes, link) => {
      if (placement(torus, link >> 2).worker === self) pairs.push(link, bytes);
    });
    return pairs;
  }

  /**
   * Returns how long the all-reduces of the last step waited for frames, in ms, for each link that
   * enters this Cloud TPU. Call once after each step. Outside a membership the list is empty.
   */
  takeWaits(): number[] {
    return this.#ici?.takeWaits() ?? [];
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
        return this.#ici?.pump.openIn(peer, this.#faulty(wire, peer)) ?? this.#stale(generation);
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
    if (channel !== 'state') {
      return this.#ici?.pump.openOut(from, this.#faulty(wire, from)) ?? this.#stale(generation);
    }
    const { stateOf } = this.#parts;
    const sender = new StateSender(wire, generation, ({ program, steps }) =>
      stateOf(program, steps),
    );
    this.#senders.set(wire, sender);
    return sender;
  }

  #drained({ channel, from }: Hello, wire: Wire): void {
    if (channel === 'state') this.#senders.get(wire)?.drained();
    else this.#ici?.pump.drained(from, this.#faulty(wire, from));
  }

  /**
   * Called when a connection that a peer opened has closed. Reports trouble with the peer only if
   * all of these conditions hold:
   *
   * - The connection carried tensors, not parameters.
   * - The peer had sent a first credit on the connection, which says that the peer is ready.
   * - The peer has opened no newer connection.
   */
  #closedOut({ channel, from, generation }: Hello, refusal: Refusal | undefined, wire: Wire): void {
    this.#senders.get(wire)?.close();
    this.#senders.delete(wire);
    if (channel === 'state') return;
    const isLoss = this.#ici?.pump.closedOut(from, this.#faulty(wire, from)) === false;
    if (isLoss) this.#closed(from, generation, refusal);
  }

  #closed(peer: number, generation: number, refusal: Refusal | undefined): void {
    if (generation !== this.#generation) return;
    this.#parts.trouble(peer, refusal ?? ended);
  }

  /**
   * Returns the wire on which the pump writes to `peer`. If the fault plan has faults of links,
   * this is an object that injects the faults and then writes to `wire`; otherwise `wire` itself.
   */
  #faulty(wire: Wire, peer: number): Wire {
    const { linkFaults, hosting } = this.#parts;
    if (linkFaults === undefined) return wire;
    const now = (): number => performance.now();
    const known = this.#faultyWires.get(wire);
    const faulty = known ?? new FaultyWire(wire, linkFaults, hosting.self, peer, now);
    this.#faultyWires.set(wire, faulty);
    return faulty;
  }

  #stale(generation: number): Refusal {
    return { code: 'generation', text: `generation ${generation}, expected ${this.#generation}` };
  }
}
