import { crc32 } from 'node:zlib';
import { wordsOfProgram } from '../../src/experiment/program-index.ts';
import { assert } from '../../src/numerics/assert.ts';
import type { FrameHeader, FrameSink, Refusal } from './frame.ts';
import { emptyHeader, encodeFrame, encodeHeader, frameKinds, HeaderRoom } from './frame.ts';
import { readRefusal } from './handshake.ts';
import type { Wire } from './wire.ts';

/**
 * Request of one Cloud TPU, the taker, to another Cloud TPU, the sender: send the parameters of a
 * program. Each transfer has a connection of its own:
 *
 * 1. The taker sends a `state` frame without a payload. In its header, `collective` is the index of
 *    the program, and `sequence` says after how many completed steps the parameters are wanted.
 * 2. The sender sends all parameters in order, in pieces. Each piece is the payload of a `state`
 *    frame. In its header, `collective` is the index of the program, `queue` is the index of the
 *    parameter, and `sequence` is the index of the piece in that parameter.
 * 3. The taker closes the connection.
 */
export interface StateQuery {
  readonly program: number;
  /** After how many completed steps the parameters are wanted. */
  readonly steps: number;
}

/**
 * Parameters are sent in pieces of this length, in bytes; the last piece of a parameter may be
 * shorter. Pieces are short, so that a tensor frame never waits for more than one piece.
 */
const pieceBytes = 128 * 1024;

/**
 * Sending end of a transfer of parameters, which are sent in pieces. Sends a piece each time the
 * kernel has taken the previous piece.
 */
export class StateSender implements FrameSink {
  readonly #wire: Wire;
  readonly #generation: number;
  readonly #stateOf: (query: StateQuery) => readonly Uint8Array[] | undefined;
  readonly #head: HeaderRoom = new HeaderRoom();
  #program = 0;
  #values: readonly Uint8Array[] | undefined;
  #index = 0;
  #piece = 0;
  #isClosed = false;

  /**
   * `stateOf` returns the parameters without copying them, or undefined if they are not available.
   */
  constructor(
    wire: Wire,
    generation: number,
    stateOf: (query: StateQuery) => readonly Uint8Array[] | undefined,
  ) {
    this.#wire = wire;
    this.#generation = generation;
    this.#stateOf = stateOf;
  }

  place({ kind, bytes, generation }: Readonly<FrameHeader>): Uint8Array | Refusal {
    if (kind === frameKinds.refuse) return new Uint8Array(bytes);
    const isQuery = kind === frameKinds.state && bytes === 0 && this.#values === undefined;
    if (!isQuery) return { code: 'order', text: `an unexpected frame of kind ${kind}` };
    return generation === this.#generation
      ? new Uint8Array(0)
      : { code: 'generation', text: `generation ${generation}, expected ${this.#generation}` };
  }

  accept(header: Readonly<FrameHeader>, payload: Uint8Array): Refusal | undefined {
    if (header.kind === frameKinds.refuse) return readRefusal(header, payload);
    const query = { program: header.collective, steps: header.sequence };
    this.#program = query.program;
    this.#values = this.#stateOf(query);
    if (this.#values === undefined)
      return { code: 'peer', text: `this worker has no ${nameState(query)}` };
    this.#sendSoon();
    return undefined;
  }

  /** Called when the kernel has taken all bytes that were written. Sends the next piece. */
  drained(): void {
    this.#sendSoon();
  }

  /** Stops the transfer. After `close` has returned, the sender does not read the parameters. */
  close(): void {
    this.#isClosed = true;
  }

  /**
   * Sends the next piece after all pending socket events have been handled, so that tensor frames
   * are sent first.
   */
  #sendSoon(): void {
    setImmediate(() => this.#send());
  }

  #send(): void {
    const payload = this.#isClosed ? undefined : this.#next();
    if (payload === undefined) return;
    const header: FrameHeader = {
      ...{ ...emptyHeader(), kind: frameKinds.state, generation: this.#generation },
      ...{ collective: this.#program, queue: this.#index, sequence: this.#piece },
      bytes: payload.length,
    };
    encodeHeader(header, crc32(payload), this.#head);
    this.#piece++;
    if (this.#wire.write(this.#head.bytes, payload)) this.#sendSoon();
  }

  /** Returns the next piece, or undefined after the last piece. */
  #next(): Uint8Array | undefined {
    const value = this.#values?.[this.#index];
    if (value === undefined) return undefined;
    const start = this.#piece * pieceBytes;
    if (start < value.length) return value.subarray(start, start + pieceBytes);
    this.#index++;
    this.#piece = 0;
    return this.#next();
  }
}

/**
 * Receiving end of a transfer of parameters, which arrive in pieces. Every piece goes directly into
 * the memory of its parameter. A piece out of order is refused with the code `order`.
 */
export class StateTaker implements FrameSink {
  readonly #query: StateQuery;
  readonly #generation: number;
  readonly #into: readonly Uint8Array[];
  readonly #taken: () => void;
  #index = 0;
  #offset = 0;

  /**
   * `into` is the memory for the parameters, in order. `taken` is called when all of this memory
   * has been filled.
   */
  constructor(
    query: StateQuery,
    generation: number,
    into: readonly Uint8Array[],
    taken: () => void,
  ) {
    assert(
      into.some(({ length }) => length > 0),
      `nothing to be taken: ${nameState(query)}`,
    );
    this.#query = query;
    this.#generation = generation;
    this.#into = into;
    this.#taken = taken;
    this.#skipFull();
  }

  /** Frame that requests the parameters from the sender. */
  get query(): Buffer {
    const { program: collective, steps: sequence } = this.#query;
    const kind = frameKinds.state;
    return encodeFrame({
      ...emptyHeader(),
      kind,
      generation: this.#generation,
      collective,
      sequence,
    });
  }

  place(header: Readonly<FrameHeader>): Uint8Array | Refusal {
    const { kind, bytes } = header;
    if (kind === frameKinds.refuse) return new Uint8Array(bytes);
    if (kind !== frameKinds.state)
      return { code: 'order', text: `an unexpected frame of kind ${kind}` };
    const room = this.#into[this.#index]?.subarray(this.#offset, this.#offset + pieceBytes);
    const isNext =
      room !== undefined &&
      header.generation === this.#generation &&
      header.collective === this.#query.program &&
      header.queue === this.#index &&
      header.sequence === this.#offset / pieceBytes;
    if (!isNext) return { code: 'order', text: 'a piece of a parameter out of order' };
    if (bytes === room.length) return room;
    return {
      code: 'length',
      text: `a piece of ${bytes} bytes of parameter ${this.#index}, expected ${room.length}`,
    };
  }

  accept(header: Readonly<FrameHeader>, payload: Uint8Array): Refusal | undefined {
    if (header.kind === frameKinds.refuse) return readRefusal(header, payload);
    this.#offset += payload.length;
    this.#skipFull();
    if (this.#index === this.#into.length) this.#taken();
    return undefined;
  }

  #skipFull(): void {
    while (this.#index < this.#into.length && this.#offset >= this.#length) {
      this.#index++;
      this.#offset = 0;
    }
  }

  get #length(): number {
    return this.#into[this.#index]?.length ?? 0;
  }
}

export function nameState({ program, steps }: StateQuery): string {
  return `parameters of ${wordsOfProgram(program).name} after ${steps} steps`;
}
