import { createServer, type IncomingMessage, type Server } from 'node:http';
import { type AddressInfo, createServer as createStreamServer, type Socket } from 'node:net';
import { type WebSocket, WebSocketServer } from 'ws';
import { PodError } from '../../src/numerics/error.ts';
import { formatPlace } from './address.ts';
import type { Gate } from './gate.ts';

/** Handle of a listening socket. */
export interface Listener {
  /** TCP port; 0 for a unix socket. */
  readonly port: number;
  /** Stops listening and closes all connections. */
  close(): Promise<void>;
}

export interface WebSocketPlace {
  readonly host: string;
  /** TCP port to listen on; 0 lets the operating system choose one. */
  readonly port: number;
  /** Path of the URL that clients must request. Any other path is answered with 404. */
  readonly path: string;
  /** Largest incoming message, in bytes. */
  readonly maxPayload: number;
}

/**
 * Listens for WebSocket connections. `gate` limits the time from the start of a connection to the
 * end of its handshake. This time includes the wait for the HTTP request.
 *
 * @throws PodError `io` if the address cannot be bound.
 */
export async function listenWebSocket(
  { host, port, path, maxPayload }: WebSocketPlace,
  gate: Gate,
  connected: (ws: WebSocket, socket: Socket) => void,
): Promise<Listener> {
  const sockets = new WebSocketServer({
    noServer: true,
    clientTracking: false,
    perMessageDeflate: false,
    maxPayload,
  });
  const server = createServer(
    { headersTimeout: gate.msMax, requestTimeout: gate.msMax, maxHeaderSize: 4096 },
    (_, response) => response.writeHead(426, { connection: 'close' }).end(),
  );
  const held = track(server, gate);
  server.on('upgrade', (request: IncomingMessage, socket: Socket, head: Buffer) => {
    socket.on('error', () => socket.destroy());
    if (request.url !== path) {
      socket.end('HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n');
      return;
    }
    sockets.handleUpgrade(request, socket, head, (ws) => {
      socket.setNoDelay(true);
      connected(ws, socket);
    });
  });
  server.on('clientError', (_, socket) => socket.destroy());
  await listening(server, { host, port }, formatPlace({ host, port }));
  return {
    port: (server.address() as AddressInfo).port,
    close: () => closeAll(server, held, gate),
  };
}

/**
 * Listens on a unix socket. If an earlier process has left a socket file at `path`, the caller must
 * remove that file first.
 *
 * @throws PodError `io` if the path cannot be bound.
 */
export async function listenUnix(
  path: string,
  gate: Gate,
  connected: (socket: Socket) => void,
): Promise<Listener> {
  const server = createStreamServer();
  const held = track(server, gate);
  server.on('connection', (socket) => {
    socket.on('error', () => socket.destroy());
    connected(socket);
  });
  await listening(server, { path }, path);
  return { port: 0, close: () => closeAll(server, held, gate) };
}

type AnyServer = Server | ReturnType<typeof createStreamServer>;

function track(server: AnyServer, gate: Gate): Set<Socket> {
  const held = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    held.add(socket);
    socket.once('close', () => held.delete(socket));
    gate.enter(socket);
  });
  return held;
}

function listening(
  server: AnyServer,
  where: { readonly host: string; readonly port: number } | { readonly path: string },
  name: string,
): Promise<void> {
  return new Promise((resolve, reject) => {
    // An error before the server listens rejects the promise. A later error means that one new
    // connection was not accepted, for example because no file descriptor is free. It has no effect
    // here: the promise is settled, and the client tries again.
    server.on('error', (error) => {
      reject(new PodError('io', `cannot listen on ${name}: ${error.message}`, error));
    });
    server.listen(where, resolve);
  });
}

function closeAll(server: AnyServer, held: Set<Socket>, gate: Gate): Promise<void> {
  return new Promise((resolve) => {
    gate.close();
    server.close(() => resolve());
    for (const socket of held) socket.destroy();
  });
}
