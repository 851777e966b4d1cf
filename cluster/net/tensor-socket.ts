import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { Socket, type SocketConstructorOpts } from 'node:net';
import { formatPlace } from './address.ts';
import { Connection } from './connection.ts';
import type { FrameSink, Refusal } from './frame.ts';
import { Gate } from './gate.ts';
import type { Handshake, Hello } from './handshake.ts';
import { connectingHandshake, listeningHandshake, nonceBytes } from './handshake.ts';
import { type Listener, listenUnix, listenWebSocket } from './listen.ts';
import type { Token } from './token.ts';
import type { Wire, WireEvents } from './wire.ts';
import { streamWire, webSocketWire } from './wire.ts';
import { maskedWire, type Puller, WebSocketStream } from './ws-stream.ts';

/**
 * Options of a server for tensor connections, which carry tensors or parameters from one process to
 * another. The process that sends the data is the server, because a WebSocket client must mask all
 * bytes that it sends, but a server need not.
 */
export interface TensorServerOptions {
  readonly token: Token;
  readonly host: string;
  /** TCP port to listen on; 0 lets the operating system choose one. */
  readonly port: number;
  /** Path of a unix socket on which the server also listens, for peers on the same host. */
  readonly unixPath?: string;
  /**
   * Decides about a peer that has proved that it holds the token. Returns undefined if the peer may
   * connect; otherwise the reason for the refusal, for example that the membership has changed.
   */
  readonly admit: (hello: Hello) => Refusal | undefined;
  /**
   * Called when the handshake has succeeded. `wire` carries frames to process `hello.from`. Returns
   * the sink for the frames from that process, or a refusal, which closes the connection.
   */
  readonly open: (hello: Hello, wire: Wire) => FrameSink | Refusal;
  /**
   * Called when the kernel has taken all bytes that were written to `wire`, for process
   * `hello.from`.
   */
  readonly drained: (hello: Hello, wire: Wire) => void;
  /** Called when a connection for which `open` was called has ended. */
  readonly closed: (hello: Hello, refusal: Refusal | undefined, wire: Wire) => void;
  /** Called when a connection has ended before its handshake was complete. */
  readonly turnedAway: (refusal: Refusal) => void;
}

export interface TensorServer extends Listener {
  /**
   * Closes all connections, because the membership changes. The server goes on listening for new
   * connections.
   */
  drop(): void;
}

export const tensorPath = '/tensor';
/**
 * Time limit, in ms, that each end sets for the handshake of a connection. The limit is long,
 * because 64 processes may be starting on two processors at the same time.
 */
const handshakeMs = 20_000;
/**
 * Largest incoming WebSocket message, in bytes. The server receives only small frames: handshakes,
 * credits, refusals and requests for parameters.
 */
const inboundBytesMax = 4096;

/**
 * Listens for tensor connections on TCP, and on a unix socket if `unixPath` is set.
 *
 * @throws PodError `io` if the address or the path cannot be bound.
 */
export async function listenTensors(options: TensorServerOptions): Promise<TensorServer> {
  const turnedAway = (why: 'timeout' | 'too-many'): void =>
    options.turnedAway({ code: why, text: `no handshake: ${why}` });
  const gate = new Gate(turnedAway, handshakeMs);
  const live = new Set<Connection>();
  const { host, port, unixPath } = options;
  const place = { host, port, path: tensorPath, maxPayload: inboundBytesMax };
  const overTcp = await listenWebSocket(place, gate, (ws, socket) => {
    const accept = acceptTensors(options, socket, gate, live, (it) =>
      webSocketWire(ws, socket, it),
    );
    ws.on('message', (data) => {
      if (Buffer.isBuffer(data)) accept.push(data);
    });
    ws.on('error', (error) => accept.refuse({ code: 'peer', text: error.message }));
  });
  const overUnix = unixPath
    ? await listenUnix(unixPath, gate, (socket) => {
        const accept = acceptTensors(options, socket, gate, live, (it) => streamWire(socket, it));
        socket.on('data', (piece) => accept.push(piece));
      })
    : undefined;
  const drop = (): void => {
    for (const connection of [...live]) connection.close();
  };
  return {
    port: overTcp.port,
    drop,
    async close() {
      drop();
      await Promise.all([overTcp.close(), overUnix?.close()]);
    },
  };
}

function acceptTensors(
  options: Omit<TensorServerOptions, 'host' | 'port' | 'unixPath'>,
  socket: Socket,
  gate: Gate,
  live: Set<Connection>,
  makeWire: (events: WireEvents) => Wire,
): Connection {
  let opened: Hello | undefined;
  const wire = makeWire({
    drained: () => {
      if (opened && !connection.isClosed) options.drained(opened, wire);
    },
  });
  const nonce = randomBytes(nonceBytes);
  const handshake = listeningHandshake(options.token, ['tensor', 'state'], nonce, options.admit);
  const connection = new Connection(wire, handshake, {
    open(hello) {
      gate.pass(socket);
      opened = hello;
      return options.open(hello, wire);
    },
    closed(refusal) {
      live.delete(connection);
      if (opened) options.closed(opened, refusal, wire);
      else
        options.turnedAway(
          refusal ?? { code: 'order', text: 'disconnected before the handshake was complete' },
        );
    },
  });
  live.add(connection);
  socket.once('close', () => connection.closed(undefined));
  return connection;
}

/**
 * Addresses at which a process accepts tensor connections. The master sends the addresses to all
 * peers, in the message `membership`.
 */
export interface TensorOffer {
  readonly host: string;
  readonly port: number;
  /** Path of the unix socket on which the process also listens, for peers on the same host. */
  readonly unixPath?: string;
}

export interface TensorClientOptions {
  readonly token: Token;
  readonly offer: TensorOffer;
  readonly hello: Omit<Hello, 'role'>;
  /**
   * Called when the handshake has succeeded. Frames to the peer, such as credits, go out on `wire`.
   * Returns the sink for the frames from the peer, or a refusal, which closes the connection.
   */
  readonly open: (wire: Wire) => FrameSink | Refusal;
  /**
   * Called once, when the connection has ended or could not be opened. The caller decides whether
   * to connect again.
   */
  readonly closed: (refusal: Refusal | undefined) => void;
  /** Called whenever bytes have arrived from the peer. */
  readonly heard?: () => void;
}

export interface TensorClient {
  /** Transport of the connection: a unix socket or a WebSocket. */
  readonly over: 'unix' | 'ws';
  /** Closes the connection at once. Bytes that arrive after this call are dropped. */
  close(): void;
}

/**
 * Connects to the tensor server of a peer, from which this process receives tensors or parameters.
 * Uses a unix socket if `offer` names one whose path exists on this host, otherwise a WebSocket.
 */
export function connectTensors(options: TensorClientOptions): TensorClient {
  const { offer, token } = options;
  const hello: Hello = { ...options.hello, role: 'worker' };
  const handshake = connectingHandshake(token, hello, randomBytes(nonceBytes));
  const path = offer.unixPath;
  return path !== undefined && existsSync(path)
    ? connectUnix(path, handshake, options)
    : connectWebSocket(offer, handshake, options);
}

type Opening = Handshake & { readonly opening: Buffer };

function connectUnix(path: string, handshake: Opening, options: TensorClientOptions): TensorClient {
  const { socket, begin } = pullingSocket();
  const wire = streamWire(socket, { drained: () => undefined }, true);
  const connection = clientConnection(wire, handshake, options);
  begin(pullerOf(connection, options.heard), connection);
  socket.connect({ path }, () => wire.write(handshake.opening));
  return { over: 'unix', close: () => connection.close() };
}

function connectWebSocket(
  { host, port }: TensorOffer,
  handshake: Opening,
  options: TensorClientOptions,
): TensorClient {
  const { socket, begin } = pullingSocket();
  const wire = maskedWire(socket);
  const connection = clientConnection(wire, handshake, options);
  const stream = new WebSocketStream(pullerOf(connection, options.heard), {
    open: () => wire.write(handshake.opening),
    ended(refusal) {
      connection.closed(refusal);
      socket.destroy();
    },
  });
  begin(stream, connection);
  socket.setNoDelay(true);
  socket.connect({ host, port }, () =>
    socket.write(stream.request(formatPlace({ host, port }), tensorPath)),
  );
  return { over: 'ws', close: () => connection.close() };
}

function clientConnection(
  wire: Wire,
  handshake: Handshake,
  { open, closed }: TensorClientOptions,
): Connection {
  const deadline = setTimeout(() => {
    connection.refuse({ code: 'timeout', text: `no handshake in ${handshakeMs} ms` });
  }, handshakeMs);
  const connection = new Connection(wire, handshake, {
    open() {
      clearTimeout(deadline);
      return open(wire);
    },
    closed(refusal) {
      clearTimeout(deadline);
      closed(refusal);
    },
  });
  return connection;
}

function pullerOf(connection: Connection, heard: () => void = () => undefined): Puller {
  return {
    room: () => connection.reader.room(),
    took: (count) => {
      heard();
      connection.took(count);
    },
    push: (piece) => {
      heard();
      connection.push(piece);
    },
  };
}

/**
 * Options of a socket with the option `onread`, which Node supports but its TypeScript types omit
 * [Node, `net.Socket`].
 */
type ReadInto = SocketConstructorOpts & {
  readonly onread: {
    readonly buffer: () => Uint8Array;
    readonly callback: (count: number) => boolean;
  };
};

/** Creates a socket that reads bytes directly into the memory of a puller (a receiver of bytes). */
function pullingSocket(): {
  readonly socket: Socket;
  /**
   * Connects the socket with the receiver of its bytes, `puller`, and with the connection that it
   * serves. The caller must call `begin` before the socket connects.
   */
  readonly begin: (puller: Puller, connection: Connection) => void;
} {
  let puller: Puller | undefined;
  let connection: Connection | undefined;
  const trash = new Uint8Array(4096);
  const options: ReadInto = {
    onread: {
      buffer: () => (puller && connection?.isClosed === false ? puller.room() : trash),
      callback: (count: number) => {
        if (connection?.isClosed === false) puller?.took(count);
        return connection?.isClosed === false;
      },
    },
  };
  const socket = new Socket(options);
  socket.on('error', (error) => connection?.closed({ code: 'peer', text: error.message }));
  socket.on('close', () => connection?.closed(undefined));
  socket.on('end', () => socket.destroy());
  return {
    socket,
    begin(itsPuller, itsConnection) {
      puller = itsPuller;
      connection = itsConnection;
    },
  };
}
