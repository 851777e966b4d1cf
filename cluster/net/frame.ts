import { crc32 } from 'node:zlib';
import type { RunningCrc } from '../../src/fabric/kernels/crc.ts';
import { broken } from '../../src/numerics/assert.ts';

/**
 * Header of a frame. A frame is the unit in which processes send data to one another: a header of
 * 64 bytes, then a payload. All words are little-endian. Bytes 0–7 (magic, version, kind) have the
 * same place in every version of the protocol. The header fills one cache line. So a payload
 * directly after the header starts at a cache line too, and the operating system copies whole
 * lines.
 *
 * ```
 *  0 magic u32 'TPUF'   4 version u16   6 kind u16
 *  8 generation u32         12 collective u32   16 sequence u32   20 queue u32 (link · 2 + colour)
 * 24 bytes u32 (of the payload)   28 CRC-32 of the payload   32 returned u32
 * 36 zeros            60 CRC-32 of bytes 0–59
 * ```
 *
 * The CRC-32 is that of IEEE 802.3. It detects every single burst error of up to 32 bits.
 */
export interface FrameHeader {
  kind: FrameKind;
  /** Generation of the membership in which the frame was sent. */
  generation: number;
  /**
   * In a `tensor` or `shared` frame: index of the all-reduce, from 0, since the generation began.
   * In a `state` frame, which requests or carries parameters: index of the program.
   */
  collective: number;
  /**
   * The meaning depends on the kind of the frame:
   *
   * - `tensor`, `shared`: index of the frame, from 0, among the frames of its all-reduce and queue.
   * - `state` with parameters: index, from 0, of this piece of the parameter. (Parameters are sent
   *   in pieces.)
   * - `state` as a request: after how many completed steps the parameters are wanted.
   * - `mapped`: 1 if the peer has mapped the segment (shared memory), 0 if the peer cannot map it.
   * - `refuse`: the reason, a number of {@link refusalCodes}.
   */
  sequence: number;
  /**
   * In a `tensor`, `shared`, `credit` or `sent` frame: index of a queue, link · 2 + colour. (Each link has
   * two queues, one for each colour.) In a `state` frame: index of the parameter.
   */
  queue: number;
  /** Length of the payload, in bytes. */
  bytes: number;
  /**
   * Report of released frames. The sender of this header states how many frames it has received
   * through one queue, and has released, since the generation began; modulo 2^32. In a `credit`
   * frame that queue is `queue`. In a `tensor` or `shared` frame it is the reverse of `queue`: the
   * queue between the same chips in the other direction.
   *
   * In a `sent` frame instead: how many frames the sender of this header has sent through `queue`
   * since the generation began; modulo 2^32.
   */
  returned: number;
}

export const frameKinds = {
  hello: 1,
  challenge: 2,
  proof: 3,
  welcome: 4,
  refuse: 5,
  tensor: 6,
  credit: 7,
  state: 8,
  /** Offers the peer a segment, which is memory shared by two processes on one host. */
  segment: 9,
  /** Answers a segment frame: says whether the peer has mapped the offered segment. */
  mapped: 10,
  /**
   * Tensor frame whose payload lies in a segment (shared memory). Only the header of the frame goes
   * through the socket.
   */
  shared: 11,
  /** Says nothing but that its sender lives and the connection works. No payload. */
  alive: 12,
  /**
   * Says how many frames its sender has sent through a queue. If fewer have arrived, a frame is
   * lost. No payload.
   */
  sent: 13,
} as const;
export type FrameKind = (typeof frameKinds)[keyof typeof frameKinds];

export const protocolVersion = 8;
export const headerBytes = 64;
/**
 * Largest payload, in bytes, of most kinds of frames. Only tensor, shared and state frames may have
 * a larger payload.
 */
export const smallPayloadBytes = 256;

/** Length of a cache line, in bytes. */
export const lineBytes = 64;

/** First four bytes of every frame: `TPUF` in ASCII. */
const magic = [0x54, 0x50, 0x55, 0x46] as const;
/** How many bytes the CRC-32 of the header covers: all bytes of the header before that CRC-32. */
const checkedBytes = headerBytes - 4;

/**
 * Reasons for refusing a frame, a handshake or a connection. Refuse frames carry these numbers, so
 * the numbers are part of the protocol.
 */
export const refusalCodes = {
  magic: 1,
  version: 2,
  'header-crc': 3,
  kind: 4,
  length: 5,
  'payload-crc': 6,
  generation: 7,
  queue: 8,
  credit: 9,
  token: 10,
  order: 11,
  timeout: 12,
  'too-many': 13,
  message: 14,
  peer: 15,
  lost: 16,
} as const;
export type RefusalCode = keyof typeof refusalCodes;

export interface Refusal {
  readonly code: RefusalCode;
  /** One line that says what was expected and what was found. */
  readonly text: string;
  /**
   * Header of the frame whose payload is corrupt (`payload-crc`); undefined for all other reasons.
   */
  readonly header?: Readonly<FrameHeader>;
  /** True if the peer refused a frame or connection of this end; undefined if this end refused. */
  readonly isTheirs?: true;
}

/**
 * Returns the refusal code with number `code`, or `message` if this version of the protocol does
 * not know the number.
 */
export function refusalOf(code: number): RefusalCode {
  const found = Object.entries(refusalCodes).find(([, value]) => value === code);
  return (found?.[0] as RefusalCode | undefined) ?? 'message';
}

/**
 * Creates the header of a tensor frame with all numbers zero. The caller fills in the numbers, and
 * changes the kind if the frame is not a tensor frame.
 */
export function emptyHeader(): FrameHeader {
  return { kind: 6, generation: 0, collective: 0, sequence: 0, queue: 0, bytes: 0, returned: 0 };
}

/** Memory for one encoded header. The memory is reused for one header after another. */
export class HeaderRoom {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** The part of `bytes` that the CRC-32 in the header covers. */
  readonly checked: Uint8Array;

  /** `bytes` must be a `Buffer`, because streams of Node write a `Buffer` without converting it. */
  constructor(bytes: Buffer = Buffer.alloc(headerBytes)) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, headerBytes);
    this.checked = bytes.subarray(0, checkedBytes);
    bytes.set(magic);
  }
}

/** Encodes a header into a {@link HeaderRoom}. `payloadCrc` is the CRC-32 of the payload. */
export function encodeHeader(
  header: Readonly<FrameHeader>,
  payloadCrc: number,
  { view, checked }: HeaderRoom,
  version: number = protocolVersion,
): void {
  view.setUint16(4, version, true);
  view.setUint16(6, header.kind, true);
  view.setUint32(8, header.generation, true);
  view.setUint32(12, header.collective, true);
  view.setUint32(16, header.sequence, true);
  view.setUint32(20, header.queue, true);
  view.setUint32(24, header.bytes, true);
  view.setUint32(28, payloadCrc, true);
  view.setUint32(32, header.returned, true);
  view.setUint32(checkedBytes, crc32(checked), true);
}

/**
 * Encodes a header and its payload into one buffer, and so copies the payload. Only tests and the
 * senders of small frames use this function.
 */
export function encodeFrame(
  header: Readonly<Omit<FrameHeader, 'bytes'>>,
  payload: Uint8Array = nothing,
  version: number = protocolVersion,
): Buffer {
  const record = Buffer.alloc(headerBytes + payload.length);
  const room = new HeaderRoom(record);
  encodeHeader({ ...header, bytes: payload.length }, crc32(payload), room, version);
  record.set(payload, headerBytes);
  return record;
}

const nothing = new Uint8Array(0);

/**
 * True if `bytes` begin with a frame and not with a msgpack message. In msgpack, the first byte of
 * a frame, 0x54, is a complete value. So a msgpack message that begins with 0x54 has only this one
 * byte, but every frame is longer.
 */
export function isFrame(bytes: Uint8Array): boolean {
  return bytes.length >= headerBytes && magic.every((byte, i) => bytes[i] === byte);
}

/** Returns the kind of an encoded frame. The number is not checked. */
export function kindOf(frame: Buffer): number {
  return frame.readUInt16LE(6);
}

/** Returns the index of the queue in the header of an encoded frame: link · 2 + colour. */
export function queueOf(frame: Buffer): number {
  return frame.readUInt32LE(20);
}

/** Receiver of the frames of a stream. */
export interface FrameSink {
  /**
   * Returns the memory for the payload of the frame with the given header, or a refusal. The reader
   * writes the payload to that memory. Exception: the payload of a `shared` frame is in that memory
   * already. The memory may be up to `headerBytes` longer than `header.bytes`. The reader then
   * receives the header of the next frame together with the payload.
   */
  place(header: Readonly<FrameHeader>): Uint8Array | Refusal;
  /**
   * Processes a complete frame. The reader has verified that the payload has the CRC-32
   * `payloadCrc`. Returns a refusal if the frame is wrong, otherwise undefined. The reader reuses
   * `header` for the next frame.
   */
  accept(
    header: Readonly<FrameHeader>,
    payload: Uint8Array,
    payloadCrc: number,
  ): Refusal | undefined;
  /**
   * Returns an object that computes the CRC-32 of the first `bytes` bytes of `place` while these
   * bytes arrive. Returns undefined if the reader is to compute the CRC-32 with zlib.
   */
  checksum?(place: Uint8Array, bytes: number): RunningCrc | undefined;
}

/**
 * Reads frames from a stream of bytes. The reader buffers only headers; a payload goes directly to
 * the memory that the sink returns. After the first invalid frame, the reader reads no more and
 * returns the refusal of that frame at every call.
 *
 * There are two ways to pass bytes: call {@link push} with the bytes, or write the bytes to the
 * memory that {@link room} returns and report how many there are to {@link took}.
 */
export class FrameReader {
  readonly #sink: FrameSink;
  readonly #head = new Uint8Array(headerBytes);
  readonly #view = new DataView(this.#head.buffer);
  readonly #checked = this.#head.subarray(0, checkedBytes);
  readonly #header: FrameHeader = emptyHeader();
  /**
   * Memory for the next bytes. While a header is read, this is `#head`. While a payload is read,
   * this is the memory that the sink returned, which may also have room for the next header.
   */
  #target: Uint8Array = this.#head;
  #filled = 0;
  /** Payload length of the frame that is being read, in bytes. */
  #bytes = 0;
  readonly #zlib = new ZlibCrc();
  #crc: RunningCrc = this.#zlib;
  /** CRC-32 that the payload must have, as stated in the header. */
  #payloadCrc = 0;
  #refusal: Refusal | undefined;

  constructor(sink: FrameSink) {
    this.#sink = sink;
  }

  /** Returns the memory for the next bytes. The memory is never empty. */
  room(): Uint8Array {
    return this.#filled === 0 ? this.#target : this.#target.subarray(this.#filled);
  }

  /**
   * Processes `count` bytes that the caller has written to the start of the memory that
   * {@link room} returned. Returns a refusal if a frame is wrong, otherwise undefined.
   */
  took(count: number): Refusal | undefined {
    if (this.#refusal) return this.#refusal;
    if (count > this.#target.length - this.#filled) broken(`${count} bytes: too little room`);
    this.#filled += count;
    const refusal = this.#target === this.#head ? this.#headGrew() : this.#payloadGrew();
    this.#refusal = refusal;
    return refusal;
  }

  /**
   * Processes the next bytes of the stream, `piece`, which may have any length. Returns a refusal
   * if a frame is wrong, otherwise undefined.
   */
  push(piece: Uint8Array): Refusal | undefined {
    let start = 0;
    while (start < piece.length && !this.#refusal) {
      const room = this.room();
      const count = Math.min(room.length, piece.length - start);
      room.set(count === piece.length ? piece : piece.subarray(start, start + count));
      start += count;
      this.took(count);
    }
    return this.#refusal;
  }

  #headGrew(): Refusal | undefined {
    const seen = Math.min(this.#filled, magic.length);
    for (let i = 0; i < seen; i++) {
      if (this.#head[i] !== magic[i])
        return { code: 'magic', text: 'not a frame of this protocol' };
    }
    if (this.#filled < headerBytes) return undefined;
    const wrong = this.#decode();
    if (wrong) return wrong;
    const header = this.#header;
    const place = this.#sink.place(header);
    if (!(place instanceof Uint8Array)) return place;
    const slack = place.length - header.bytes;
    if (slack < 0 || slack > headerBytes) broken(`${place.length} bytes for ${header.bytes}`);
    this.#target = place;
    this.#bytes = header.bytes;
    this.#crc = this.#sink.checksum?.(place, header.bytes) ?? this.#zlib.begin(place);
    // The payload of a `shared` frame is in shared memory already. So it counts as complete, and
    // none of its bytes are read from the stream.
    this.#filled = header.kind === frameKinds.shared ? header.bytes : 0;
    return this.#filled === header.bytes ? this.#payloadGrew() : undefined;
  }

  #decode(): Refusal | undefined {
    const view = this.#view;
    const version = view.getUint16(4, true);
    if (version !== protocolVersion) {
      return { code: 'version', text: `protocol version ${version}, expected ${protocolVersion}` };
    }
    if (view.getUint32(checkedBytes, true) !== crc32(this.#checked)) {
      return { code: 'header-crc', text: 'a corrupt frame header' };
    }
    const kind = view.getUint16(6, true);
    if (!isKind(kind)) return { code: 'kind', text: `a frame of unknown kind ${kind}` };
    const header = this.#header;
    header.kind = kind;
    header.generation = view.getUint32(8, true);
    header.collective = view.getUint32(12, true);
    header.sequence = view.getUint32(16, true);
    header.queue = view.getUint32(20, true);
    header.bytes = view.getUint32(24, true);
    header.returned = view.getUint32(32, true);
    this.#payloadCrc = view.getUint32(28, true);
    if (!hasLargePayload(kind) && header.bytes > smallPayloadBytes) {
      return { code: 'length', text: `${header.bytes} bytes, at most ${smallPayloadBytes}` };
    }
    return undefined;
  }

  #payloadGrew(): Refusal | undefined {
    const bytes = this.#bytes;
    const read = this.#target;
    // The CRC-32 is computed as the bytes arrive, because new bytes are still in the processor's
    // nearest caches.
    this.#crc.take(Math.min(this.#filled, bytes));
    if (this.#filled < bytes) return undefined;
    const payload = read.length === bytes ? read : read.subarray(0, bytes);
    const more = this.#filled - bytes;
    if (more > 0) this.#head.set(read.subarray(bytes, this.#filled));
    this.#target = this.#head;
    this.#filled = more;
    const crc = this.#crc.end();
    if (crc !== this.#payloadCrc) {
      return { code: 'payload-crc', text: 'a corrupt payload', header: { ...this.#header } };
    }
    const refusal = this.#sink.accept(this.#header, payload, crc);
    return refusal || more === 0 ? refusal : this.#headGrew();
  }
}

/** CRC-32 of a payload, computed with zlib while the payload arrives. */
class ZlibCrc implements RunningCrc {
  #payload: Uint8Array = nothing;
  #end = 0;
  #crc = 0;

  begin(payload: Uint8Array): this {
    this.#payload = payload;
    this.#end = 0;
    this.#crc = 0;
    return this;
  }

  take(end: number): void {
    this.#crc = crc32(this.#payload.subarray(this.#end, end), this.#crc);
    this.#end = end;
  }

  end(): number {
    return this.#crc;
  }
}

function isKind(kind: number): kind is FrameKind {
  return kind >= frameKinds.hello && kind <= frameKinds.sent;
}

function hasLargePayload(kind: FrameKind): boolean {
  return kind === frameKinds.tensor || kind === frameKinds.shared || kind === frameKinds.state;
}
