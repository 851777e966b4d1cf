import type { Socket } from 'node:net';
import type { WebSocket } from 'ws';
import { headerBytes, type RefusalCode } from './frame.ts';

/** The sending half of a connection, whatever carries it. */
export interface Wire {
  /**
   * Sends `head`, then `payload`; both stay as they are until the kernel has them. Returns whether
   * it has them now; otherwise `drained` of {@link WireEvents} comes later, and no other payload is
   * sent before.
   */
  write(head: Uint8Array, payload?: Uint8Array): boolean;
  /** Both ends are on one host. */
  readonly isLocal?: true;
  /** Bytes that the kernel has not taken. */
  readonly waiting: number;
  /** Sends a last record, if any, and closes; what the peer makes of it is not waited for. */
  end(record?: Buffer, code?: RefusalCode): void;
}

export interface WireEvents {
  /** All that was written is with the kernel. */
  drained(): void;
}

/** How long a peer may take to read why it was turned away, in ms. */
const lingerMs = 200;

/**
 * Over a unix socket. One that reads into shared memory is a reader: it is done with at once, so that nothing that still comes can reach memory that has another use by then.
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
 * Over the listening side of a WebSocket, whose frames are not masked. `socket` is what it is on. A
 * head and its payload are one message, written past the library, which would make two of them.
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

/** A WebSocket's header [RFC 6455, 5.2] and the head of a frame. */
const leadBytesMax = 10 + headerBytes;

/** Writes the header of a binary message of `head` and `bytes` bytes, then `head`, to `lead`. */
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

/** Close codes of WebSockets for private use: 4000 + number. */
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
 * Ends a socket. What the kernel has not taken yet is not sent any more: it may lie in memory that is
 * about to be written.
 */
export function endSocket(socket: Socket, atOnce: boolean): void {
  if (atOnce || socket.writableLength > mostLastWords) {
    socket.destroy();
    return;
  }
  socket.end();
  setTimeout(() => socket.destroy(), lingerMs).unref();
}

/** A refusal and a close frame of a WebSocket, should the kernel not have taken them. */
const mostLastWords = 1024;
