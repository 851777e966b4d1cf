import { crc32 } from 'node:zlib';
import type { RunningCrc } from '../../src/fabric/kernels/crc.ts';
import { broken } from '../../src/numerics/assert.ts';

/**
 * Header of a frame, which has 64 bytes. A frame is the unit in which processes send data to one
 * another: a header, then a payload. All words are little-endian. In every version of the protocol,
 * bytes 0–7 contain the same fields: magic, version and kind.
 *
 * ```
 *  0 magic u32 'TPUF'   4 version u16   6 kind u16
 *  8 generation u32         12 collective u32   16 sequence u32   20 queue u32 (link · 2 + colour)
 * 24 bytes u32 (of the payload)   28 CRC-32 of the payload   32 returned u32
 * 36 zeros            60 CRC-32 of bytes 0–59
 * ```
 *
 * The header has the size of a cache line. So the payload behind it starts at a cache line too,
 * which makes copying faster. The CRC-32 is that of IEEE 802.3, which detects every burst error of
 * up to 32 bits.
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
   * - `tensor`, `shared`: index of the frame, from 0, among the frames that belong to the same
   *   all-reduce and use the same queue.
   * - `state` that carries parameters: index of the piece, from 0. (A parameter is sent in pieces.)
   * - `state` that requests parameters: number of completed steps of the wanted parameters.
   * - `mapped`: 1 if the peer has mapped the segment (shared memory), 0 if the peer cannot map it.
   * - `refuse`: the reason, a number of {@link refusalCodes}.
   */
  sequence: number;
  /**
   * In a `tensor`, `shared`, `credit` or `sent` frame: index of a queue, which is 2 times the index
   * of the link, plus the colour. (A link has one queue for each colour, 0 and 1.) In a `state`
   * frame: index of the parameter.
   */
  queue: number;
  /** Length of the payload, in bytes. */
  bytes: number;
  /**
   * Number of frames, counted since the generation began, modulo 2^32. Which frames are counted
   * depends on the kind:
   *
   * - `credit`: the frames that the sender of this header has received through `queue` and has
   *   released.
   * - `tensor`, `shared`: the frames that the sender of this header has received through the
   *   reverse of `queue` and has released. The reverse is the queue between the same two chips in
   *   the other direction.
   * - `sent`: the frames that the sender of this header has sent through `queue`.
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
  /** Tells the peer that the sender is running and that the connection works. No payload. */
  alive: 12,
  /**
   * States how many frames its sender has sent through a queue. If fewer frames have arrived, the
   * receiver knows that a frame is lost. No payload.
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
   * For the code `payload-crc`: header of the frame whose payload is corrupt. Undefined for all
   * other codes.
   */
  readonly header?: Readonly<FrameHeader>;
  /**
   * True if the peer has refused a frame or a connection of this process. Undefined if this process
   * has refused a frame or a connection of the peer.
   */
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
 * Creates a header. Its kind is `tensor`, and all numbers in it are 0. The caller fills in the
 * numbers, and the kind if it is another.
 */
export function emptyHeader(): FrameHeader {
  return { kind: 6, generation: 0, collective: 0, sequence: 0, queue: 0, bytes: 0, returned: 0 };
}

/** Memory for one encoded header. It can be used again for the next header. */
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
 * Encodes a header and its payload into one buffer. This copies the payload, so only tests and
 * senders of small frames call this function.
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
 * True if `bytes` begin with a frame; false if they are a msgpack message. A frame begins with the
 * byte 0x54. In msgpack this byte alone is a complete value, so a msgpack message that begins with
 * 0x54 has one byte. Every frame has more bytes.
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
   * Called when the header of a frame has arrived. Returns the memory to which the reader writes
   * the payload, or a refusal. The payload of a `shared` frame is in the returned memory already.
   *
   * The memory may be up to `headerBytes` longer than the payload. The reader then receives the
   * header of the next frame together with the payload.
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
   * Returns an object that computes the CRC-32 of the payload while the payload arrives. The
   * payload is the first `bytes` bytes of `place`. If the method returns undefined, the reader
   * computes the CRC-32 itself.
   */
  checksum?(place: Uint8Array, bytes: number): RunningCrc | undefined;
}

/**
 * Reads frames from a stream of bytes. Payloads go directly to the memory that the sink (the
 * receiver of the frames) returns; only headers are buffered. After an invalid frame the reader
 * reads no more, and every call returns the refusal of that frame.
 *
 * There are two ways to pass bytes to the reader. Either call {@link push} with the bytes. Or write
 * the bytes to the memory that {@link room} returns, then call {@link took} with their number.
 */
export class FrameReader {
  readonly #sink: FrameSink;
  readonly #head = new Uint8Array(headerBytes);
  readonly #view = new DataView(this.#head.buffer);
  readonly #checked = this.#head.subarray(0, checkedBytes);
  readonly #header: FrameHeader = emptyHeader();
  /**
   * Memory to which the next bytes are written. While a header arrives, it is `#head`. While a
   * payload arrives, it is the memory that the sink returned. That memory may also have room for
   * the header of the next frame.
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
    // The payload of a `shared` frame lies in shared memory, not in the stream. So all its bytes
    // are present already.
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
    // The CRC-32 is computed while the payload arrives, because bytes that have just arrived are
    // still in a fast cache of the processor.
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
