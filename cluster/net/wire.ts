import type { Socket } from 'node:net';
import type { WebSocket } from 'ws';
import { headerBytes, type RefusalCode } from './frame.ts';

/** Sending half of a connection, independent of its transport. */
export interface Wire {
  /**
   * Sends `head`, then `payload`. Returns true if the kernel of the operating system has taken all
   * bytes. If not, returns false, and the event `drained` follows when the kernel has taken them.
   * Until then the caller must not change `head` and `payload`, and must not send another payload.
   * A closed wire sends nothing and returns false, and no `drained` follows.
   */
  write(head: Uint8Array, payload?: Uint8Array): boolean;
  /**
   * True if the connection is a unix socket, so that both ends are on one host; otherwise
   * undefined.
   */
  readonly isLocal?: true;
  /** How many written bytes the kernel has not taken yet. */
  readonly waiting: number;
  /**
   * Closes the connection without waiting for an answer of the peer. If `record` is given, sends it
   * first; `record` may be dropped if earlier bytes still wait in the socket. `code` selects the
   * close code of a WebSocket.
   */
  end(record?: Buffer, code?: RefusalCode): void;
}

export interface WireEvents {
  /** Called when the kernel has taken all bytes that were written. */
  drained(): void;
}

/**
 * Time, in ms, between the end of a connection and the destruction of its socket. In this time the
 * peer can still read the reason for a refusal.
 */
const lingerMs = 200;

/**
 * Creates a wire over a unix socket. `isReader` is true if this end writes received bytes directly
 * into the memory of the emulator. In that case the socket is destroyed at once when the connection
 * ends. Otherwise a late byte could overwrite memory that is already used for something else.
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
 * Creates a wire over the listening side of a WebSocket. The listening side does not mask its
 * messages. Each call of `write` sends `head` and `payload` as one message. The library `ws` would
 * send two messages. So the wire writes to `socket`, the TCP socket below the WebSocket.
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

/**
 * Largest total length, in bytes, of a WebSocket header [RFC 6455, 5.2] and the header of a frame.
 */
const leadBytesMax = 10 + headerBytes;

/**
 * Writes the beginning of a binary WebSocket message to `lead`: the WebSocket header, then `head`.
 * The caller sends the remaining `bytes` bytes of the message itself. Returns the part of `lead`
 * that was written.
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
 * Returns the WebSocket close code for a refusal: a code from 4001 to 4006, in the range for
 * private use. Without a refusal returns 1000, which means a normal close.
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
 * Ends a socket in which written bytes may still wait. If `atOnce` is true, or if more than
 * {@link mostLastWords} bytes wait, drops these bytes: they may lie in memory that is about to be
 * overwritten. Otherwise the system still sends them, and the socket is destroyed after
 * {@link lingerMs} ms.
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
 * Largest number of waiting bytes that are still sent when a socket ends. If more bytes wait, all
 * are dropped. The limit leaves room for a refusal and the close frame of a WebSocket.
 */
const mostLastWords = 1024;
