import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  emptyHeader,
  frameKinds,
  headerBytes,
  type RefusalCode,
  refusalOf,
} from '../cluster/net/frame.ts';
import { connectingHandshake, type Hello, nonceBytes } from '../cluster/net/handshake.ts';
import type { Token } from '../cluster/net/token.ts';
import { maskedFrame } from '../cluster/net/ws-stream.ts';
import type { Random } from '../src/numerics/generator.ts';
import { noise } from './fuzz-inputs.ts';

/** A listening socket of this machine: a TCP port or the path of a unix socket. */
export type End = { readonly port: number } | { readonly path: string };

/**
 * Longest life of a connection of the attacker, in ms. It is long, because the attack keeps the
 * machine busy, so that the attacked process answers slowly.
 */
const lineMsLimit = 30_000;
/** Number of received bytes after which a connection drops all further received bytes. */
const heardBytesMax = 2 ** 18;

/**
 * One connection of the attacker. It sends any bytes, valid or not, and ends after `lineMsLimit` at
 * the latest.
 */
export class Line {
  readonly #socket: Socket;
  #heard: Buffer[] = [];
  #heardBytes = 0;
  #changed: () => void = () => undefined;
  isOpen = false;
  isEnded = false;

  constructor(end: End) {
    this.#socket = connect('port' in end ? { ...end, host: '127.0.0.1' } : end);
    const deadline = setTimeout(() => this.#socket.destroy(), lineMsLimit);
    this.#socket.on('connect', () => {
      this.isOpen = true;
      this.#changed();
    });
    this.#socket.on('data', (piece) => this.#hear(piece));
    // The attacked process may hang up at any time, which can cause an event `error`. It is ignored
    // here, because the event `close` follows in any case.
    this.#socket.on('error', () => undefined);
    this.#socket.on('close', () => {
      clearTimeout(deadline);
      this.isEnded = true;
      this.#changed();
    });
  }

  /** Bytes received so far. */
  get heard(): Buffer {
    if (this.#heard.length > 1) this.#heard = [Buffer.concat(this.#heard)];
    return this.#heard[0] ?? Buffer.alloc(0);
  }

  write(bytes: Uint8Array): void {
    if (this.#socket.writable) this.#socket.write(bytes);
  }

  /** Ends the sending side of the connection. The receiving side stays open. */
  finish(): void {
    this.#socket.end();
  }

  /** Stops reading, so that the send buffers of the attacked process fill up. */
  deafen(): void {
    this.#socket.pause();
  }

  close(): void {
    this.#socket.destroy();
  }

  /**
   * Waits until `holds` returns true, and returns true. Returns false if the connection ends first.
   */
  async until(holds: () => boolean): Promise<boolean> {
    while (!holds()) {
      if (this.isEnded) return false;
      await new Promise<void>((resolve) => {
        this.#changed = resolve;
      });
    }
    return true;
  }

  /**
   * Waits until the attacked process hangs up, at most `withinMs`. Returns true if it has hung up.
   */
  async untilEnded(withinMs: number): Promise<boolean> {
    const ended = this.until(() => this.isEnded);
    await Promise.race([ended, sleep(withinMs, undefined, { ref: false })]);
    return this.isEnded;
  }

  #hear(piece: Buffer): void {
    if (this.#heardBytes < heardBytesMax) this.#heard.push(piece);
    this.#heardBytes += piece.length;
    this.#changed();
  }
}

/** A received frame of the pod's protocol. */
export interface Reply {
  readonly kind: number;
  /** Code of the refusal. The code has a meaning only if the frame has the kind `refuse`. */
  readonly code: RefusalCode;
  readonly payload: Buffer;
}

/** A connection that carries frames, either over a unix socket or in messages of a WebSocket. */
export interface Carried {
  readonly line: Line;
  send(record: Buffer): void;
  /** Returns all frames received so far. */
  replies(): readonly Reply[];
  /**
   * Returns the code with which the other end has closed the WebSocket. Undefined if no such code
   * has arrived.
   */
  closeCode(): number | undefined;
  /**
   * Waits until the attacked process has processed all bytes that were sent to it. For this, sends
   * a ping on the WebSocket and waits for the pong: the process sends the pong only after it has
   * processed all earlier bytes. On a unix socket, which has no pings, does not wait. Returns false
   * if the attacked process has hung up.
   */
  settled(): Promise<boolean>;
}

/**
 * Connects to a unix socket. Frames are sent over it as they are, without a WebSocket. Returns
 * undefined if the connection is refused.
 */
export async function openStream(end: End): Promise<Carried | undefined> {
  const line = new Line(end);
  if (!(await line.until(() => line.isOpen))) return undefined;
  return {
    line,
    send: (record) => line.write(record),
    replies: () => repliesIn(line.heard),
    closeCode: () => undefined,
    settled: async () => !line.isEnded,
  };
}

const upgradeKey = 'Zm9yIGZ1enppbmcgb25seQ==';

/** Returns a valid HTTP request that opens a WebSocket. */
export function upgradeRequest(path: string): string {
  const lines = [
    ...[`GET ${path} HTTP/1.1`, 'Host: 127.0.0.1', 'Upgrade: websocket', 'Connection: Upgrade'],
    ...[`Sec-WebSocket-Key: ${upgradeKey}`, 'Sec-WebSocket-Version: 13', '', ''],
  ];
  return lines.join('\r\n');
}

/** Opens a WebSocket. Returns undefined if the other end does not answer with status 101. */
export async function openWebSocket(end: End, path: string): Promise<Carried | undefined> {
  const line = new Line(end);
  line.write(Buffer.from(upgradeRequest(path)));
  const headEnd = (): number => line.heard.indexOf('\r\n\r\n');
  if (!(await line.until(() => headEnd() >= 0))) return undefined;
  if (!line.heard.subarray(0, 13).equals(Buffer.from('HTTP/1.1 101 '))) {
    line.close();
    return undefined;
  }
  const start = headEnd() + 4;
  const frames = (): WebSocketFrames => framesIn(line.heard.subarray(start));
  return {
    line,
    send: (record) => line.write(maskedFrame(opcodes.binary, record)),
    replies: () => repliesIn(frames().data),
    closeCode: () => frames().closeCode,
    async settled() {
      const { pongs } = frames();
      line.write(maskedFrame(opcodes.ping, Buffer.from('here?')));
      return await line.until(() => frames().pongs > pongs);
    },
  };
}

export const opcodes = { text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const;

interface WebSocketFrames {
  /** Concatenated payloads of the data frames. */
  readonly data: Buffer;
  readonly pongs: number;
  readonly closeCode: number | undefined;
}

/** Parses WebSocket frames of a server, which are not masked. Ignores an incomplete last frame. */
function framesIn(bytes: Buffer): WebSocketFrames {
  const data: Buffer[] = [];
  let pongs = 0;
  let closeCode: number | undefined;
  for (let at = 0; at + 2 <= bytes.length; ) {
    const opcode = bytes.readUInt8(at) & 15;
    const short = bytes.readUInt8(at + 1);
    const head = short < 126 ? 2 : short === 126 ? 4 : 10;
    if (at + head > bytes.length) break;
    const length =
      head === 2
        ? short
        : head === 4
          ? bytes.readUInt16BE(at + 2)
          : Number(bytes.readBigUInt64BE(at + 2));
    if (at + head + length > bytes.length) break;
    if (opcode === opcodes.pong) pongs++;
    if (opcode === opcodes.close && length >= 2) closeCode = bytes.readUInt16BE(at + head);
    if (opcode <= opcodes.binary) data.push(bytes.subarray(at + head, at + head + length));
    at += head + length;
  }
  return { data: Buffer.concat(data), pongs, closeCode };
}

function repliesIn(bytes: Buffer): readonly Reply[] {
  const replies: Reply[] = [];
  for (let at = 0; at + headerBytes <= bytes.length; ) {
    if (bytes.toString('latin1', at, at + 4) !== 'TPUF') break;
    const end = at + headerBytes + bytes.readUInt32LE(at + 24);
    if (end > bytes.length) break;
    const payload = bytes.subarray(at + headerBytes, end);
    const code = refusalOf(bytes.readUInt32LE(at + 16));
    replies.push({ kind: bytes.readUInt16LE(at + 6), code, payload });
    at = end;
  }
  return replies;
}

/**
 * Returns how the other end ended the connection: the code of its refusal if it has sent one;
 * otherwise the close code of the WebSocket if it has sent one; otherwise `hung up`. Returns
 * `waits` if the connection is still open.
 */
export function lastWords(carried: Carried): string {
  const refusal = carried.replies().find(({ kind }) => kind === frameKinds.refuse);
  if (refusal !== undefined) return refusal.code;
  const code = carried.closeCode();
  if (code !== undefined) return `close ${code}`;
  return carried.line.isEnded ? 'hung up' : 'waits';
}

/**
 * State of a handshake after the other end has sent the challenge. `opening` is the first frame that
 * the attacker has sent. `proof` is the right answer to the challenge; the attacker sends it next.
 */
export interface Challenged {
  readonly opening: Buffer;
  readonly proof: Buffer;
}

/**
 * Sends the first frame of a handshake as an honest peer would, and waits for the challenge.
 * Returns undefined if the other end answers with anything else.
 */
export async function beChallenged(
  carried: Carried,
  token: Token,
  hello: Hello,
  random: Random,
): Promise<Challenged | undefined> {
  const handshake = connectingHandshake(token, hello, noise(random, nonceBytes));
  carried.send(handshake.opening);
  if (!(await carried.line.until(() => carried.replies().length > 0))) return undefined;
  const challenge = carried.replies()[0];
  if (challenge?.kind !== frameKinds.challenge) return undefined;
  const header = { ...emptyHeader(), kind: frameKinds.challenge };
  const step = handshake.receive(header, challenge.payload);
  if (step.kind !== 'go-on' || step.send === undefined) return undefined;
  return { opening: handshake.opening, proof: step.send };
}

/** Makes a complete handshake with `token`. Returns true if the other end answers `welcome`. */
export async function beWelcome(
  carried: Carried,
  token: Token,
  hello: Hello,
  random: Random,
): Promise<boolean> {
  const challenged = await beChallenged(carried, token, hello, random);
  if (challenged === undefined) return false;
  carried.send(challenged.proof);
  await carried.line.until(() => carried.replies().length > 1);
  return carried.replies()[1]?.kind === frameKinds.welcome;
}
