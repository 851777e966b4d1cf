import type { RunningCrc } from '../../src/fabric/kernels/crc.ts';
import type { FrameHeader, FrameSink, Refusal } from './frame.ts';
import { FrameReader, refusalCodes } from './frame.ts';
import type { Handshake, Hello } from './handshake.ts';
import { HandshakeSink, refusalRecord } from './handshake.ts';
import type { Wire } from './wire.ts';

export interface ConnectionEvents {
  /** The handshake is through. Gives what takes the frames from here on, or why there is nothing. */
  open(hello: Hello): FrameSink | Refusal;
  /** It has ended: by a refusal of either end, or because the other end has gone. Comes once. */
  closed(refusal: Refusal | undefined): void;
}

/**
 * One connection as frames: first those of the handshake, then those of its sink. The first thing
 * that is wrong ends it, and the other end is told why.
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

  /** Takes a piece of the stream. */
  push(piece: Uint8Array): void {
    if (this.#isClosed) return;
    const refusal = this.reader.push(piece);
    if (refusal) this.refuse(refusal);
  }

  /** `count` bytes were read into the reader's room. */
  took(count: number): void {
    if (this.#isClosed) return;
    const refusal = this.reader.took(count);
    if (refusal) this.refuse(refusal);
  }

  /** Ends it, telling the other end why. */
  refuse(refusal: Refusal): void {
    if (this.#isClosed) return;
    this.#wire.end(refusalRecord(refusal, refusalCodes[refusal.code]), refusal.code);
    this.closed(refusal);
  }

  /** Ends it in peace. */
  close(): void {
    if (this.#isClosed) return;
    this.#wire.end();
    this.closed(undefined);
  }

  /** The other end has gone, or `refusal` has ended it. */
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
