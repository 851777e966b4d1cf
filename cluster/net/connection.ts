import type { RunningCrc } from '../../src/fabric/kernels/crc.ts';
import type { FrameHeader, FrameSink, Refusal } from './frame.ts';
import { FrameReader, refusalCodes } from './frame.ts';
import type { Handshake, Hello } from './handshake.ts';
import { HandshakeSink, refusalRecord } from './handshake.ts';
import type { Wire } from './wire.ts';

export interface ConnectionEvents {
  /**
   * Called when the handshake has succeeded. Returns the receiver of all later frames. May return a
   * refusal instead, which closes the connection.
   */
  open(hello: Hello): FrameSink | Refusal;
  /**
   * Called once when the connection has ended. `refusal` is the reason; undefined after an ordinary
   * close, or if the peer has disappeared.
   */
  closed(refusal: Refusal | undefined): void;
}

/**
 * Connection that carries frames. The first frames are the handshake. All later frames go to the
 * receiver that `ConnectionEvents.open` returns. At the first invalid frame, this end sends the
 * reason to the peer and closes the connection.
 */
export class Connection implements FrameSink {
  readonly reader: FrameReader;
  readonly #wire: Wire;
  readonly #events: ConnectionEvents;
  #sink: FrameSink;
  #isOpen = false;
  #isClosed = false;

  constructor(wire: Wire, handshake: Handshake, events: ConnectionEvents) {
    this.#wire = wire;
    this.#events = events;
    this.#sink = new HandshakeSink(handshake, (step) => {
      if (step.kind === 'refuse') return;
      if (step.send) wire.write(step.send);
      if (step.kind === 'done') this.#open(step.hello);
    });
    this.reader = new FrameReader(this);
  }

  get isOpen(): boolean {
    return this.#isOpen && !this.#isClosed;
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  place(header: Readonly<FrameHeader>): Uint8Array | Refusal {
    return this.#sink.place(header);
  }

  accept(
    header: Readonly<FrameHeader>,
    payload: Uint8Array,
    payloadCrc: number,
  ): Refusal | undefined {
    return this.#sink.accept(header, payload, payloadCrc);
  }

  checksum(payload: Uint8Array, bytes: number): RunningCrc | undefined {
    return this.#sink.checksum?.(payload, bytes);
  }

  /** Processes the next bytes of the stream, `piece`, which may have any length. */
  push(piece: Uint8Array): void {
    if (this.#isClosed) return;
    const refusal = this.reader.push(piece);
    if (refusal) this.refuse(refusal);
  }

  /**
   * Processes `count` bytes that the caller has written to the memory returned by `reader.room()`.
   */
  took(count: number): void {
    if (this.#isClosed) return;
    const refusal = this.reader.took(count);
    if (refusal) this.refuse(refusal);
  }

  /**
   * Closes the connection, and sends the peer `refusal` as the reason. Does nothing if the
   * connection is closed already.
   */
  refuse(refusal: Refusal): void {
    if (this.#isClosed) return;
    this.#wire.end(refusalRecord(refusal, refusalCodes[refusal.code]), refusal.code);
    this.closed(refusal);
  }

  /**
   * Closes the connection without sending a reason. Does nothing if the connection is closed
   * already.
   */
  close(): void {
    if (this.#isClosed) return;
    this.#wire.end();
    this.closed(undefined);
  }

  /**
   * Called when the socket has closed or failed, so that nothing can be sent any more. Marks the
   * connection as closed, and passes `refusal` to `ConnectionEvents.closed`. Does nothing if the
   * connection is closed already.
   */
  closed(refusal: Refusal | undefined): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#events.closed(refusal);
  }

  #open(hello: Hello): void {
    this.#isOpen = true;
    const sink = this.#events.open(hello);
    if ('code' in sink) this.refuse(sink);
    else this.#sink = sink;
  }
}
