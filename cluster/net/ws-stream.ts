import { createHash, randomBytes } from 'node:crypto';
import type { Socket } from 'node:net';
import { headerBytes, type Refusal } from './frame.ts';
import { frameElementsMax } from './route.ts';
import { endSocket, type Wire } from './wire.ts';

/**
 * Receiver of the bytes of a stream. The caller passes bytes in one of two ways. It calls `push`
 * with the bytes. Or it writes the bytes to the memory that `room` returns, and then calls `took`
 * with their number.
 */
export interface Puller {
  /** Returns the memory for the next bytes. The memory is never empty. */
  room(): Uint8Array;
  took(count: number): void;
  push(piece: Uint8Array): void;
}

/**
 * Reading half of the connecting side of a WebSocket [RFC 6455]. The operating system writes
 * payload bytes directly into the memory of `target`. For tensors this is the memory of the
 * emulator. A WebSocket library would deliver whole messages and copy each message twice.
 */
export class WebSocketStream implements Puller {
  readonly #target: Puller;
  readonly #events: WebSocketStreamEvents;
  readonly #key: string = randomBytes(16).toString('base64');
  /**
   * Memory for all bytes that are not payloads of data frames: the HTTP response, the WebSocket
   * headers and the control frames. Together with a header, the first few payload bytes may arrive
   * in this memory. They are then copied to the target.
   */
  readonly #scratch: Buffer = Buffer.alloc(64);
  #state: 'upgrading' | 'open' | 'ended' = 'upgrading';
  #response = '';
  /** Header bytes of the current WebSocket frame that have arrived so far. */
  readonly #head: Buffer = Buffer.alloc(10);
  #headFilled = 0;
  #opcode = 0;
  /** How many payload bytes of the current WebSocket frame have not arrived yet. */
  #left = 0;
  #inScratch = true;

  constructor(target: Puller, events: WebSocketStreamEvents) {
    this.#target = target;
    this.#events = events;
  }

  /** Returns the HTTP request that asks for the upgrade to a WebSocket. */
  request(host: string, path: string): string {
    const lines = [
      ...[`GET ${path} HTTP/1.1`, `Host: ${host}`, 'Upgrade: websocket', 'Connection: Upgrade'],
      ...[`Sec-WebSocket-Key: ${this.#key}`, 'Sec-WebSocket-Version: 13', '', ''],
    ];
    return lines.join('\r\n');
  }

  room(): Uint8Array {
    this.#inScratch = this.#state !== 'open' || this.#left === 0 || this.#opcode >= 8;
    if (this.#inScratch) return this.#scratch;
    const room = this.#target.room();
    return room.length <= this.#left ? room : room.subarray(0, this.#left);
  }

  took(count: number): void {
    if (this.#inScratch) {
      this.push(this.#scratch.subarray(0, count));
      return;
    }
    this.#left -= count;
    this.#target.took(count);
  }

  push(piece: Uint8Array): void {
    let at = 0;
    while (at < piece.length && this.#state !== 'ended') {
      if (this.#state === 'upgrading') at += this.#upgrade(piece[at] ?? 0);
      else if (this.#left === 0) at += this.#readHead(piece[at] ?? 0);
      else at += this.#readPayload(piece.subarray(at, at + this.#left));
    }
  }

  #upgrade(byte: number): number {
    this.#response += String.fromCharCode(byte);
    if (this.#response.length > responseMax) return this.#fail('a response without an end');
    if (!this.#response.endsWith('\r\n\r\n')) return 1;
    const [status = '', ...lines] = this.#response.split('\r\n');
    if (!/^HTTP\/1\.1 101 /.test(status)) return this.#fail(`no WebSocket: ${status.slice(0, 60)}`);
    const accepted = lines.find((line) => /^sec-websocket-accept:/i.test(line));
    const expected = createHash('sha1').update(`${this.#key}${guid}`).digest('base64');
    if (accepted?.slice(accepted.indexOf(':') + 1).trim() !== expected) {
      return this.#fail('no WebSocket: a wrong key');
    }
    this.#response = '';
    this.#state = 'open';
    this.#events.open();
    return 1;
  }

  #readHead(byte: number): number {
    const head = this.#head;
    head[this.#headFilled++] = byte;
    if (this.#headFilled < 2) return 1;
    const short = head.readUInt8(1);
    const length = short < 126 ? 2 : short === 126 ? 4 : 10;
    if (this.#headFilled < length) return 1;
    this.#headFilled = 0;
    this.#opcode = head.readUInt8(0) & 15;
    if ((head.readUInt8(0) & 0x70) !== 0 || (short & 0x80) !== 0)
      return this.#fail('reserved bits');
    this.#left =
      length === 2 ? short : length === 4 ? head.readUInt16BE(2) : Number(head.readBigUInt64BE(2));
    if (this.#opcode === opcodes.close) return this.#fail(undefined);
    if (this.#opcode >= 8) return this.#left <= 125 ? 1 : this.#fail('a long control frame');
    const isData = this.#opcode === opcodes.binary || this.#opcode === opcodes.continuation;
    if (!isData) return this.#fail(`opcode ${this.#opcode}`);
    return this.#left <= payloadMax ? 1 : this.#fail(`a frame of ${this.#left} bytes`);
  }

  #readPayload(piece: Uint8Array): number {
    this.#left -= piece.length;
    // Payloads of pings and pongs are ignored, because this stream never answers a ping.
    if (this.#opcode < 8) this.#target.push(piece);
    return piece.length;
  }

  #fail(why: string | undefined): number {
    this.#state = 'ended';
    this.#events.ended(why === undefined ? undefined : { code: 'peer', text: why });
    return 1;
  }
}

export interface WebSocketStreamEvents {
  /** Called when the upgrade to a WebSocket has succeeded. */
  open(): void;
  /**
   * Called once, as the last event, when the peer has closed the stream or violated the protocol.
   * `refusal` is undefined if the peer has closed the stream, otherwise it names the violation.
   */
  ended(refusal: Refusal | undefined): void;
}

/**
 * Creates the writing half of the connecting side of a WebSocket. Each call of `write` sends one
 * masked WebSocket frame.
 */
export function maskedWire(socket: Socket): Wire {
  const write = (record: Uint8Array): boolean => {
    if (!socket.writable) return false;
    socket.write(maskedFrame(opcodes.binary, record));
    return socket.writableLength === 0;
  };
  return {
    write: (head, payload) => write(payload ? Buffer.concat([head, payload]) : head),
    get waiting() {
      return socket.writableLength;
    },
    end(record) {
      if (record) write(record);
      endSocket(socket, true);
    },
  };
}

/** Encodes a complete masked frame of a WebSocket. The payload must not exceed 65535 bytes. */
export function maskedFrame(opcode: number, payload: Uint8Array): Buffer {
  const long = payload.length >= 126;
  const start = long ? 8 : 6;
  const frame = Buffer.alloc(start + payload.length);
  frame[0] = 0x80 | opcode;
  frame[1] = 0x80 | (long ? 126 : payload.length);
  if (long) frame.writeUInt16BE(payload.length, 2);
  const mask = randomBytes(4);
  frame.set(mask, start - 4);
  for (let i = 0; i < payload.length; i++)
    frame[start + i] = (payload[i] ?? 0) ^ (mask[i & 3] ?? 0);
  return frame;
}

const opcodes = { continuation: 0, binary: 2, close: 8 } as const;
const guid = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
const responseMax = 2048;
const payloadMax = 4 * frameElementsMax + headerBytes;
