import type { Topology, Torus } from '../../src/fabric/torus.ts';
import { type Departure, FaultyPath } from '../net/faulty-path.ts';
import type { Refusal } from '../net/frame.ts';
import { LinkFaults } from '../net/link-faults.ts';
import { beatMs, ended, unheard } from '../net/trouble.ts';
import type { Agenda } from './agenda.ts';
import { type Carrier, Connection, type Way } from './connection.ts';
import type { SimulatedIci } from './ici.ts';
import { drawn, type Range, type SimulatedTimes } from './times.ts';
import { hashStart, mixed } from './weights.ts';

/** Numbers of delivered messages and frames, and a hash of the frames. */
export interface Traffic {
  readonly messages: number;
  /** Number of frames and credits that have arrived at Cloud TPUs. */
  readonly frames: number;
  /** Hash of all delivered frames and of their times of arrival, in order of arrival. */
  readonly hash: number;
}

/** Traffic of a pod that has not started. */
const noTraffic: Traffic = { messages: 0, frames: 0, hash: 0 };

/** Wait, in microseconds, before the next attempt to connect to a neighbour. */
const retryUs = 50_000;
/** Time, in microseconds, between two attempts to deliver messages that a partition holds back. */
const heldUs = 5000;

/** Messages of one direction between a master and a worker. */
interface Channel {
  /** Virtual time, in microseconds, at which the message that was sent last arrives. */
  lastUs: number;
  /** Messages that wait until master and worker reach each other again, in order. */
  readonly held: (() => void)[];
}

type Channels = Readonly<Record<'toMaster' | 'toWorker', Channel>>;

/** A connection of a worker with a master. */
export interface Partner {
  /** Number of the Cloud TPU on whose machine the worker runs. */
  readonly site: number;
  /** True while no message passes between the master and any worker. */
  readonly isCutOff: boolean;
}

/** Callbacks by which a Cloud TPU hears from its links. */
export interface LinkEvents {
  /** Bytes have arrived. So a sum may be complete now, or an all-reduce may have failed. */
  moved(): void;
  /**
   * The connection with a peer has ended, or the peer is silent, although the membership goes on.
   */
  trouble(peer: number, refusal: Refusal): void;
}

/**
 * Carries messages between master and workers, and bytes between Cloud TPUs. Without faults nothing
 * is lost, and what is sent on one channel arrives in the order in which it was sent.
 */
export class Network implements Carrier {
  /** Faults of links and partitions that have begun. */
  readonly faults: LinkFaults;
  readonly #agenda: Agenda;
  readonly #times: SimulatedTimes;
  readonly #random: () => number;
  readonly #channels: WeakMap<Partner, Channels> = new WeakMap();
  readonly #traffic: { messages: number; frames: number; hash: number } = { ...noTraffic };
  /**
   * Links of each Cloud TPU in the newest membership that it has joined. The key is the number of
   * the Cloud TPU.
   */
  readonly #icis: Map<number, SimulatedIci> = new Map();
  readonly #events: Map<SimulatedIci, LinkEvents> = new Map();
  readonly #connections: Set<Connection> = new Set();

  constructor(
    topology: Topology,
    torus: Torus,
    agenda: Agenda,
    times: SimulatedTimes,
    random: () => number,
  ) {
    this.#agenda = agenda;
    this.#times = times;
    this.#random = random;
    this.faults = new LinkFaults(topology, torus, random, () => agenda.nowMs);
  }

  get traffic(): Traffic {
    return this.#traffic;
  }

  /**
   * Sends a message between the worker and the master, and calls `deliver` when the message
   * arrives. While the two do not reach each other, the message waits.
   */
  send(partner: Partner, way: 'toMaster' | 'toWorker', deliver: () => void): void {
    const channel = this.#channelsOf(partner)[way];
    channel.lastUs = this.#arrival(channel.lastUs, this.#times.message);
    this.#agenda.at(channel.lastUs, () => this.#deliver(partner, channel, deliver));
  }

  /** True if messages pass between the worker and the master. */
  reaches({ site, isCutOff }: Partner): boolean {
    return !isCutOff && (this.faults.isEmpty || !this.faults.isCutOff(site));
  }

  #deliver(partner: Partner, channel: Channel, deliver: () => void): void {
    if (channel.held.length === 0 && this.reaches(partner)) {
      this.#traffic.messages++;
      deliver();
    } else if (channel.held.push(deliver) === 1) this.#deliverLater(partner, channel);
  }

  /** Delivers the waiting messages of a channel once master and worker reach each other again. */
  #deliverLater(partner: Partner, channel: Channel): void {
    this.#agenda.after(heldUs, () => {
      if (!this.reaches(partner)) {
        this.#deliverLater(partner, channel);
        return;
      }
      for (const deliver of channel.held.splice(0)) {
        this.#traffic.messages++;
        deliver();
      }
    });
  }

  /** Connects a Cloud TPU that has entered a membership to its neighbours. */
  join(ici: SimulatedIci, events: LinkEvents): void {
    this.#icis.set(ici.tpu, ici);
    this.#beatLater(ici, new Set());
    this.#events.set(ici, events);
    for (const peer of ici.pump.peers.in) {
      this.#agenda.after(drawn(this.#times.frame, this.#random), () => this.#connect(ici, peer));
    }
  }

  /** Ends all connections of a Cloud TPU that leaves its membership. */
  leave(ici: SimulatedIci): void {
    ici.leave();
    this.#events.delete(ici);
    if (this.#icis.get(ici.tpu) === ici) this.#icis.delete(ici.tpu);
    for (const connection of this.#connections) {
      if (connection.receiver === ici) connection.close(0, ended);
      if (connection.sender === ici) connection.close(1, ended);
    }
  }

  #beatLater(ici: SimulatedIci, reported: Set<number>): void {
    this.#agenda.after(1000 * beatMs, () => {
      if (ici.isOver) return;
      for (const peer of ici.beat()) {
        if (!reported.has(peer)) this.trouble(ici, peer, unheard);
        reported.add(peer);
      }
      this.#beatLater(ici, reported);
    });
  }

  #connect(receiver: SimulatedIci, peer: number): void {
    if (receiver.isOver) return;
    const sender = this.#icis.get(peer);
    if (sender === undefined || sender.generation !== receiver.generation) {
      this.#agenda.after(retryUs, () => this.#connect(receiver, peer));
      return;
    }
    this.#connections.add(new Connection(sender, receiver, this));
  }

  // ------------------------------------------------------------------------------------- carrier

  pathOf(connection: Connection, way: Way, from: SimulatedIci, to: SimulatedIci): FaultyPath {
    const ends = { from: from.tpu, to: to.tpu, fromSite: from.site, toSite: to.site };
    return new FaultyPath(this.faults, ends, {
      nowUs: () => this.#agenda.nowUs,
      later: (us, act) => this.#agenda.after(us, act),
      depart: (departure) => this.#depart(connection, way, departure),
    });
  }

  carry(connection: Connection, way: Way, bytes: Buffer): void {
    const { path, newest } = connection.streams[way];
    if (!path.isClear) path.take(bytes);
    else if (newest?.sentUs === this.#agenda.nowUs) newest.pieces.push(bytes);
    else this.#transmit(connection, way, [bytes], 0);
  }

  #depart(connection: Connection, way: Way, { pieces, us, resets }: Departure): void {
    const { nowUs } = this.#agenda;
    this.#transmit(connection, way, [...pieces], us - nowUs);
    if (!resets) return;
    const { lastUs } = connection.streams[way];
    this.#agenda.at(Math.max(lastUs, nowUs), () => connection.close(way, ended));
  }

  /**
   * Sends pieces of bytes, which arrive together. Further pieces can be added to `pieces` until the
   * virtual time changes.
   */
  #transmit(connection: Connection, way: Way, pieces: Buffer[], delayUs: number): void {
    const stream = connection.streams[way];
    stream.lastUs = this.#arrival(stream.lastUs, this.#times.frame, delayUs);
    stream.newest = { sentUs: this.#agenda.nowUs, pieces };
    this.#agenda.at(stream.lastUs, () => {
      for (const bytes of pieces) {
        this.#count(stream.to.tpu, way, bytes);
        connection.arrive(way, bytes);
      }
      if (!stream.to.isOver) this.#events.get(stream.to)?.moved();
    });
  }

  #count(tpu: number, way: Way, bytes: Buffer): void {
    const traffic = this.#traffic;
    traffic.frames++;
    const last = bytes.length < 4 ? 0 : bytes.readUInt32LE(bytes.length - 4);
    const arrival = mixed(mixed(mixed(hashStart, traffic.hash), this.#agenda.nowUs), tpu);
    traffic.hash = mixed(mixed(mixed(arrival, way), bytes.length), last) >>> 0;
  }

  closing(connection: Connection, way: Way): void {
    const stream = connection.streams[way];
    const us = this.#arrival(stream.lastUs, this.#times.message);
    this.#agenda.at(us, () => {
      connection.close(way, ended);
      this.#connections.delete(connection);
    });
  }

  trouble(ici: SimulatedIci, peer: number, refusal: Refusal): void {
    this.#events.get(ici)?.trouble(peer, refusal);
  }

  #channelsOf(partner: Partner): Channels {
    const known = this.#channels.get(partner);
    if (known !== undefined) return known;
    const channels: Channels = {
      toMaster: { lastUs: 0, held: [] },
      toWorker: { lastUs: 0, held: [] },
    };
    this.#channels.set(partner, channels);
    return channels;
  }

  #arrival(lastUs: number, range: Range, delayUs = 0): number {
    return Math.max(lastUs, this.#agenda.nowUs + drawn(range, this.#random) + delayUs);
  }
}
