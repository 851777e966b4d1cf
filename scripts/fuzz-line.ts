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
import { noise, type Random } from './fuzz-inputs.ts';

/** A listening end of this machine. */
export type End = { readonly port: number } | { readonly path: string };

/** How long one connection may take, in ms: the machine is busy with what is thrown at it. */
const lineMsLimit = 30_000;
/** What is kept of what the other end says, in bytes. */
const heardBytesMax = 2 ** 18;

/** One connection of an attacker: anything may be written to it, and it ends in time. */
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
    // Who is attacked hangs up as it likes: that is what `close` tells.
    this.#socket.on('error', () => undefined);
    this.#socket.on('close', () => {
      clearTimeout(deadline);
      this.isEnded = true;
      this.#changed();
    });
  }

  /** What the other end has said so far. */
  get heard(): Buffer {
    if (this.#heard.length > 1) this.#heard = [Buffer.concat(this.#heard)];
    return this.#heard[0] ?? Buffer.alloc(0);
  }

  write(bytes: Uint8Array): void {
    if (this.#socket.writable) this.#socket.write(bytes);
  }

  /** Says that nothing more comes, and goes on listening. */
  finish(): void {
    this.#socket.end();
  }

  /** Reads nothing any more: what the other end says fills its buffers. */
  deafen(): void {
    this.#socket.pause();
  }

  close(): void {
    this.#socket.destroy();
  }

  /** Whether `holds` comes to hold before the line ends. */
  async until(holds: () => boolean): Promise<boolean> {
    while (!holds()) {
      if (this.isEnded) return false;
      await new Promise<void>((resolve) => {
        this.#changed = resolve;
      });
    }
    return true;
  }

  /** Until the other end has hung up; whether it did within a time in ms. */
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

/** What came over a line as records of the protocol. */
export interface Reply {
  readonly kind: number;
  /** Of a refusal. */
  readonly code: RefusalCode;
  readonly payload: Buffer;
}

/** What a line carries once its end takes records: itself, or a WebSocket on it. */
export interface Carried {
  readonly line: Line;
  send(record: Buffer): void;
  /** All that has come so far. */
  replies(): readonly Reply[];
  /** The code with which a WebSocket was closed, if it was. */
  closeCode(): number | undefined;
  /** Whether the other end has worked off all that was sent: false when it has hung up. */
  settled(): Promise<boolean>;
}

/** Connects to an end that takes records as they are: a unix socket. */
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

/** A request for a WebSocket that is as it should be. */
export function upgradeRequest(path: string): string {
  const lines = [
    ...[`GET ${path} HTTP/1.1`, 'Host: 127.0.0.1', 'Upgrade: websocket', 'Connection: Upgrade'],
    ...[`Sec-WebSocket-Key: ${upgradeKey}`, 'Sec-WebSocket-Version: 13', '', ''],
  ];
  return lines.join('\r\n');
}

/** Connects to a WebSocket; undefined when there was no upgrade. */
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
  /** Payloads of binary frames, one after another. */
  readonly data: Buffer;
  readonly pongs: number;
  readonly closeCode: number | undefined;
}

/** Frames of a server, which does not mask; one that has not come to its end is left aside. */
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

/** The last words of the other end: why it refused, or how it ended. */
export function lastWords(carried: Carried): string {
  const refusal = carried.replies().find(({ kind }) => kind === frameKinds.refuse);
  if (refusal !== undefined) return refusal.code;
  const code = carried.closeCode();
  if (code !== undefined) return `close ${code}`;
  return carried.line.isEnded ? 'hung up' : 'waits';
}

/** One who has been challenged, and the proof that is expected. */
export interface Challenged {
  readonly opening: Buffer;
  readonly proof: Buffer;
}

/** Says hello as an honest peer; undefined when it is not challenged. */
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

/** A whole handshake of one who holds the token; whether it was welcome. */
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
