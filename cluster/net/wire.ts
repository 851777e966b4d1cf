import type { Socket } from 'node:net';
import type { WebSocket } from 'ws';
import type { RefusalCode } from './frame.ts';

/** The sending half of a connection, whatever carries it. */
export interface Wire {
  /**
   * Sends `head`, then `payload`; both stay as they are until the kernel has them. Returns whether
   * it has them now; otherwise `drained` of {@link WireEvents} comes later.
   */
  write(head: Uint8Array, payload?: Uint8Array): boolean;
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
 * Over a stream socket: unix or TCP. One that reads into shared memory is a reader: it is done with
 * at once, so that nothing that still comes can reach memory that has another use by then.
 */
export function streamWire(socket: Socket, events: WireEvents, isReader = false): Wire {
  let isBlocked = false;
  const flushed = (): void => {
    if (!isBlocked || socket.writableLength > 0) return;
    isBlocked = false;
    events.drained();
  };
  return {
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

/** Over the listening side of a WebSocket, whose frames are not masked. `socket` is what it is on. */
export function webSocketWire(ws: WebSocket, socket: Socket, events: WireEvents): Wire {
  let isBlocked = false;
  const flushed = (): void => {
    if (!isBlocked || socket.writableLength > 0) return;
    isBlocked = false;
    events.drained();
  };
  return {
    write(head, payload) {
      if (ws.readyState !== ws.OPEN || !socket.writable) return false;
      socket.cork();
      if (payload) ws.send(head, { binary: true, fin: false });
      ws.send(payload ?? head, { binary: true, fin: true }, flushed);
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
    case 'epoch':
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
