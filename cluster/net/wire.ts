import type { Socket } from 'node:net';
import type { WebSocket } from 'ws';
import { headerBytes, type RefusalCode } from './frame.ts';

/** Sending half of a connection, independent of its transport. */
export interface Wire {
  /**
   * Sends `head`, then `payload`. The caller must not change their bytes until the kernel has taken
   * them. Returns true if the kernel has taken them already. Otherwise the event `drained` follows,
   * and the caller must not send another payload before that event.
   */
  write(head: Uint8Array, payload?: Uint8Array): boolean;
  /** True if both ends are on one host. */
  readonly isLocal?: true;
  /** Number of written bytes that the kernel has not taken yet. */
  readonly waiting: number;
  /**
   * Sends a last record, if given, and closes the connection. Does not wait for an answer of the
   * peer. The record may be dropped if earlier bytes still wait in the socket.
   */
  end(record?: Buffer, code?: RefusalCode): void;
}

export interface WireEvents {
  /** Called when the kernel has taken everything that was written. */
  drained(): void;
}

/** Time in which a peer can read why it was refused, in ms. Then the socket is destroyed. */
const lingerMs = 200;

/**
 * Creates a wire over a unix socket. `isReader` is true for an end that reads into shared memory.
 * The socket of a reader is destroyed at once when the connection ends, so that no late byte
 * reaches memory that has another use by then.
 */
export function streamWire(socket: Socket, events: WireEvents, isReader = false): Wire {
  let isBlocked = false;
  const flushed = (): void => {
    if (!isBlocked || socket.writableLength > 0) return;
    isBlocked = false;
    events.drained();
  };
  return {
    isLocal: true,
    write(head, payload) {
      if (!socket.writable) return false;
      socket.cork();
      if (payload) socket.write(head);
      socket.write(payload ?? head, flushed);
      socket.uncork();
      isBlocked = socket.writableLength > 0;
      return !isBlocked;
    },
    get waiting() {
      return socket.writableLength;
    },
    end(record) {
      if (record && socket.writable && socket.writableLength === 0) socket.write(record);
      endSocket(socket, isReader);
    },
  };
}

/**
 * Creates a wire over the listening side of a WebSocket, whose messages are not masked. `socket` is
 * the socket under `ws`. A head and its payload are one message. The wire writes that message
 * directly to the socket, because the library would make two messages.
 */
export function webSocketWire(ws: WebSocket, socket: Socket, events: WireEvents): Wire {
  let isBlocked = false;
  const lead = Buffer.alloc(leadBytesMax);
  const flushed = (): void => {
    if (!isBlocked || socket.writableLength > 0) return;
    isBlocked = false;
    events.drained();
  };
  return {
    write(head, payload) {
      if (ws.readyState !== ws.OPEN || !socket.writable) return false;
      socket.cork();
      if (payload) {
        socket.write(leadIn(lead, head, payload.length));
        socket.write(payload, flushed);
      } else ws.send(head, { binary: true }, flushed);
      socket.uncork();
      isBlocked = socket.writableLength > 0;
      return !isBlocked;
    },
    get waiting() {
      return socket.writableLength;
    },
    end(record, code) {
      if (ws.readyState === ws.OPEN && socket.writableLength === 0) {
        if (record) ws.send(record);
        ws.close(closeCode(code), code);
      }
      endSocket(socket, false);
    },
  };
}

/** Most bytes of a WebSocket header [RFC 6455, 5.2] and the header of a frame together. */
const leadBytesMax = 10 + headerBytes;

/**
 * Writes a WebSocket header and then `head` to `lead`. The header announces one binary message of
 * `head` and `bytes` more bytes. Returns the part of `lead` that was written.
 */
function leadIn(lead: Buffer, head: Uint8Array, bytes: number): Buffer {
  const length = head.length + bytes;
  const start = length < 126 ? 2 : length < 65536 ? 4 : 10;
  lead[0] = 0x82;
  lead[1] = start === 2 ? length : start === 4 ? 126 : 127;
  if (start === 4) lead.writeUInt16BE(length, 2);
  if (start === 10) lead.writeBigUInt64BE(BigInt(length), 2);
  lead.set(head, start);
  return lead.subarray(0, start + head.length);
}

/**
 * Returns the close code of a WebSocket for a refusal: from 4001 on, for private use, or 1000
 * without a refusal.
 */
export function closeCode(code: RefusalCode | undefined): number {
  switch (code) {
    case undefined:
      return 1000;
    case 'version':
      return 4001;
    case 'token':
      return 4002;
    case 'timeout':
      return 4004;
    case 'generation':
      return 4005;
    case 'too-many':
      return 4006;
    default:
      return 4003;
  }
}

/**
 * Ends a socket. If `atOnce` is true or more than {@link mostLastWords} bytes wait, the waiting
 * bytes are dropped, because they may lie in memory that is about to be overwritten.
 */
export function endSocket(socket: Socket, atOnce: boolean): void {
  if (atOnce || socket.writableLength > mostLastWords) {
    socket.destroy();
    return;
  }
  socket.end();
  setTimeout(() => socket.destroy(), lingerMs).unref();
}

/**
 * Most waiting bytes that are still sent when a socket ends: enough for a refusal and a close frame
 * of a WebSocket.
 */
const mostLastWords = 1024;
