import { crc32 } from 'node:zlib';
import type { RunningCrc } from '../../src/fabric/kernels/crc.ts';
import { broken } from '../../src/numerics/assert.ts';

/**
 * What travels between processes: records of a 64-byte header and a payload. All words are
 * little-endian. Bytes 0–7 (magic, version, kind) keep their place in every version. The header takes a
 * whole line of the caches, so that the kernel copies a payload from line to line.
 *
 * ```
 *  0 magic u32 'TPUF'   4 version u16   6 kind u16
 *  8 generation u32         12 collective u32   16 sequence u32   20 queue u32 (link · 2 + colour)
 * 24 bytes u32 (of the payload)   28 CRC-32 of the payload   32 returned u32
 * 36 zeros            60 CRC-32 of bytes 0–59
 * ```
 *
 * CRC-32 is that of IEEE 802.3, and detects every error of one burst of up to 32 bits.
 */
export interface FrameHeader {
  kind: FrameKind;
  /** Membership in which it was sent. */
  generation: number;
  /** Tensors: number of the all-reduce since the generation began. State: number of the program. */
  collective: number;
  /**
   * Tensors: number of the frame in its all-reduce and queue. State: number of the piece, or steps done
   * when asked for. Mapped: 1, or 0 where that cannot be. Refusals: why, a number of {@link refusalCodes}.
   */
  sequence: number;
  /** Tensors and credits: link · 2 + colour. State: number of the parameter. */
  queue: number;
  /** Bytes of the payload. */
  bytes: number;
  /**
   * Frames ever given back, modulo 2^32. Credits: of their queue. Tensors: of the queue that runs the
   * other way, between the same chips.
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
  /** Offers a segment of memory to share, and says whether it is mapped at the other end. */
  segment: 9,
  mapped: 10,
  /** A tensor whose payload does not follow: it lies in the segment. */
  shared: 11,
} as const;
export type FrameKind = (typeof frameKinds)[keyof typeof frameKinds];

export const protocolVersion = 5;
export const headerBytes = 64;
/** The largest payload of anything but tensors and state. */
export const smallPayloadBytes = 256;

/** Bytes of a line of the caches. */
export const lineBytes = 64;

/** `TPUF`. */
const magic = [0x54, 0x50, 0x55, 0x46] as const;
/** Bytes of the header that its own CRC-32 covers. */
const checkedBytes = headerBytes - 4;

/** Why a frame, a handshake or a connection was not accepted. The numbers travel. */
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
} as const;
export type RefusalCode = keyof typeof refusalCodes;

export interface Refusal {
  readonly code: RefusalCode;
  /** One line: what was expected and found. */
  readonly text: string;
  /** Header of the refused frame; undefined when the header itself was damaged. */
  readonly header?: Readonly<FrameHeader>;
  /** It is the other end that refuses; else this end has found something wrong. */
  readonly isTheirs?: true;
}

/** Name of a refusal that came with this number; `message` for one this version does not know. */
export function refusalOf(code: number): RefusalCode {
  const found = Object.entries(refusalCodes).find(([, value]) => value === code);
  return (found?.[0] as RefusalCode | undefined) ?? 'message';
}

/** A header to be filled in. */
export function emptyHeader(): FrameHeader {
  return { kind: 6, generation: 0, collective: 0, sequence: 0, queue: 0, bytes: 0, returned: 0 };
}

/** Where headers are written, one after another. */
export class HeaderRoom {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** Those that have a CRC of their own. */
  readonly checked: Uint8Array;

  /** A `Buffer`, so that a stream takes it as it is. */
  constructor(bytes: Buffer = Buffer.alloc(headerBytes)) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, headerBytes);
    this.checked = bytes.subarray(0, checkedBytes);
    bytes.set(magic);
  }
}

/** Writes a header; `payloadCrc` is that of its payload. */
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

/** A whole record in one piece: for handshakes, credits and tests. */
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

/** Whether this begins as a frame does; no msgpack of more than one byte does, if it is one value. */
export function isFrame(bytes: Uint8Array): boolean {
  return bytes.length >= headerBytes && magic.every((byte, i) => bytes[i] === byte);
}

/** What is done with the frames of a stream. */
export interface FrameSink {
  /**
   * Where the payload of a frame with this header goes, or lies if it is shared; or why it may not. It
   * may be up to `headerBytes` more than `header.bytes`, which the header behind the payload passes
   * through.
   */
  place(header: Readonly<FrameHeader>): Uint8Array | Refusal;
  /**
   * A whole frame whose payload is sound, and has this CRC-32; or why it may not be. The header is used
   * again.
   */
  accept(
    header: Readonly<FrameHeader>,
    payload: Uint8Array,
    payloadCrc: number,
  ): Refusal | undefined;
  /**
   * What works out the CRC-32 of the first `bytes` of this place as they come; undefined where there is
   * no faster way than zlib's.
   */
  checksum?(place: Uint8Array, bytes: number): RunningCrc | undefined;
}

/**
 * Reads frames from a stream of bytes that comes in any pieces. Nothing is buffered but a header:
 * a payload goes straight to where the sink wants it. The first thing wrong ends it.
 *
 * Bytes come in either by {@link push}, or by reading into {@link room} and saying how many came.
 */
export class FrameReader {
  readonly #sink: FrameSink;
  readonly #head = new Uint8Array(headerBytes);
  readonly #view = new DataView(this.#head.buffer);
  readonly #checked = this.#head.subarray(0, checkedBytes);
  readonly #header: FrameHeader = emptyHeader();
  /** The part that is being read: the header, or a payload and what follows. */
  #target: Uint8Array = this.#head;
  #filled = 0;
  /** Bytes of the payload. */
  #bytes = 0;
  readonly #zlib = new ZlibCrc();
  #crc: RunningCrc = this.#zlib;
  /** As the header says. */
  #payloadCrc = 0;
  #refusal: Refusal | undefined;

  constructor(sink: FrameSink) {
    this.#sink = sink;
  }

  /** Where the next bytes go; never empty. */
  room(): Uint8Array {
    return this.#filled === 0 ? this.#target : this.#target.subarray(this.#filled);
  }

  /** `count` bytes were put at the start of {@link room}. Says what is wrong with them, if anything. */
  took(count: number): Refusal | undefined {
    if (this.#refusal) return this.#refusal;
    if (count > this.#target.length - this.#filled) broken(`${count} bytes: too little room`);
    this.#filled += count;
    const refusal = this.#target === this.#head ? this.#headGrew() : this.#payloadGrew();
    this.#refusal = refusal;
    return refusal;
  }

  /** Takes a piece of the stream. Says what is wrong with it, if anything. */
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
    // What is shared lies there already.
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
    // While what has come is in the nearest caches.
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

/** zlib's. */
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
  return kind >= frameKinds.hello && kind <= frameKinds.shared;
}

function hasLargePayload(kind: FrameKind): boolean {
  return kind === frameKinds.tensor || kind === frameKinds.shared || kind === frameKinds.state;
}
