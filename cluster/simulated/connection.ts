import type { FaultyPath } from '../net/faulty-path.ts';
import type { FrameSink, Refusal } from '../net/frame.ts';
import { FrameReader, refusalCodes } from '../net/frame.ts';
import { refusalRecord } from '../net/handshake.ts';
import { ended } from '../net/trouble.ts';
import type { Wire } from '../net/wire.ts';
import type { SimulatedIci } from './ici.ts';

/** What a connection needs from the network. */
export interface Carrier {
  /**
   * Returns the path that bytes take from `from` to `to`. The path applies the faults of links to
   * the bytes.
   */
  pathOf(connection: Connection, way: Way, from: SimulatedIci, to: SimulatedIci): FaultyPath;
  /** Brings bytes to the other end of the connection. `way` is the direction. */
  carry(connection: Connection, way: Way, bytes: Buffer): void;
  /**
   * Called when one end notices that the connection has ended, with the reason `refusal`. Not called
   * if the Cloud TPU at this end has left the membership. `ici` contains the links of that Cloud
   * TPU, and `peer` is the number of the Cloud TPU at the other end.
   */
  trouble(ici: SimulatedIci, peer: number, refusal: Refusal): void;
  /**
   * Called when one end has closed. Tells the other end, after some virtual time. `way` is the
   * direction from the closed end to the other end.
   */
  closing(connection: Connection, way: Way): void;
}

/**
 * Direction of bytes on a connection. Direction 0 carries frames from the sender to the receiver.
 * Direction 1 carries credits from the receiver to the sender.
 */
export type Way = 0 | 1;

/** One direction of a connection. */
interface Stream {
  readonly reader: FrameReader;
  readonly to: SimulatedIci;
  /** Virtual time, in microseconds, at which the newest bytes arrive. */
  lastUs: number;
  /**
   * The bytes that were sent last, and the virtual time, in microseconds, at which they were sent.
   * If more bytes are sent at the same time, they are added to these bytes, and all of them arrive
   * together.
   */
  newest: { readonly sentUs: number; readonly pieces: Buffer[] } | undefined;
  readonly path: FaultyPath;
}

/**
 * Simulated connection on which the frames of one Cloud TPU go to a neighbour, and credits come
 * back. It carries the same bytes as a connection in a pod of processes, and the same code reads
 * and checks them. There is no handshake.
 */
export class Connection {
  readonly sender: SimulatedIci;
  readonly receiver: SimulatedIci;
  readonly streams: readonly [Stream, Stream];
  readonly #carrier: Carrier;
  readonly #wires: readonly [Wire, Wire];
  /** For each direction: true if its receiving end has closed. */
  readonly #isClosed: [boolean, boolean] = [false, false];
  /**
   * Bytes that the receiver sends while the constructor of the connection runs. At its end, the
   * constructor passes these bytes on.
   */
  readonly #early: Buffer[] = [];

  constructor(sender: SimulatedIci, receiver: SimulatedIci, carrier: Carrier) {
    this.sender = sender;
    this.receiver = receiver;
    this.#carrier = carrier;
    this.#wires = [this.#wire(0), this.#wire(1)];
    const [tensors, credits] = this.#wires;
    const toReceiver = receiver.pump.openIn(sender.tpu, credits);
    const toSender = sender.pump.openOut(receiver.tpu, tensors);
    this.streams = [
      makeStream(toReceiver, receiver, carrier.pathOf(this, 0, sender, receiver)),
      makeStream(toSender, sender, carrier.pathOf(this, 1, receiver, sender)),
    ];
    for (const bytes of this.#early.splice(0)) carrier.carry(this, 1, bytes);
  }

  /** Handles bytes that have arrived. */
  arrive(way: Way, bytes: Buffer): void {
    const { reader, to } = this.streams[way];
    if (this.#isClosed[way] || to.isOver) return;
    const refusal = reader.push(bytes);
    if (refusal === undefined) return;
    if (refusal.isTheirs !== true) {
      this.#carrier.carry(this, opposite(way), refusalRecord(refusal, refusalCodes[refusal.code]));
    }
    this.close(way, refusal);
  }

  /** Closes the end that receives on `way`, for the given reason. The other end closes later. */
  close(way: Way, refusal: Refusal): void {
    if (this.#isClosed[way]) return;
    this.#isClosed[way] = true;
    this.streams[way].path.drop();
    this.#carrier.closing(this, opposite(way));
    const { to } = this.streams[way];
    const peer = this.streams[opposite(way)].to.tpu;
    if (to.isOver) return;
    if (way === 1 && to.pump.closedOut(peer, this.#wires[0])) return;
    this.#carrier.trouble(to, peer, refusal);
  }

  #wire(way: Way): Wire {
    return {
      write: (head, payload) => {
        const bytes = Buffer.allocUnsafe(head.length + (payload?.length ?? 0));
        bytes.set(head);
        if (payload !== undefined) bytes.set(payload, head.length);
        if (this.streams === undefined) this.#early.push(bytes);
        else this.#carrier.carry(this, way, bytes);
        return true;
      },
      waiting: 0,
      end: () => this.close(opposite(way), ended),
    };
  }
}

function makeStream(sink: FrameSink | Refusal, to: SimulatedIci, path: FaultyPath): Stream {
  if ('code' in sink) throw new Error(`a simulated connection was refused: ${sink.text}`);
  return { reader: new FrameReader(sink), to, lastUs: 0, newest: undefined, path };
}

function opposite(way: Way): Way {
  return way === 0 ? 1 : 0;
}
