import { randomBytes } from 'node:crypto';
import type { Socket } from 'node:net';
import { WebSocket } from 'ws';
import { assert } from '../../src/numerics/assert.ts';
import { messageOf, PodError } from '../../src/numerics/error.ts';
import type { Backoff } from './backoff.ts';
import { backoffMs } from './backoff.ts';
import { decodeMessage, encodeMessage, messageBytesMax } from './codec.ts';
import { Connection } from './connection.ts';
import type { FrameSink, Refusal } from './frame.ts';
import { frameKinds, isFrame } from './frame.ts';
import { Gate } from './gate.ts';
import type { Handshake, Hello } from './handshake.ts';
import { connectingHandshake, listeningHandshake, nonceBytes, readRefusal } from './handshake.ts';
import { type Listener, listenWebSocket } from './listen.ts';
import type { Token } from './token.ts';
import { type Wire, webSocketWire } from './wire.ts';

/** Control channel to one peer. The channel exists only after the handshake with the peer. */
export interface ControlChannel<Out> {
  /**
   * The first message of the handshake, which the connecting end has sent. It states the role and
   * the number of the connecting process, and the number of the process that it wants to reach.
   */
  readonly hello: Hello;
  /** Sends a message. Does nothing if the channel has closed. */
  send(message: Out): void;
  close(): void;
  /** Closes the channel because of an error of the peer, and sends the peer the reason. */
  refuse(refusal: Refusal): void;
}

/** Handlers for the events of a control channel. */
export interface ChannelEvents<In> {
  message(message: In): void;
  /**
   * Called once when the channel has closed. `refusal` is undefined after an ordinary close, or if
   * the peer has disappeared.
   */
  closed(refusal: Refusal | undefined): void;
}

export interface ControlCommon<In> {
  readonly token: Token;
  /**
   * Validates a decoded message against the schema of its kind. Throws a `PodError` that names the
   * field that does not match.
   */
  readonly check: (value: unknown) => In;
  /**
   * Interval between two pings to the peer, in ms. If the peer answers neither of two pings in a
   * row, and sends nothing else either, the channel closes when the next ping is due. The refusal
   * code is then `timeout`.
   */
  readonly heartbeatMs: number;
}

export interface ControlServerOptions<In, Out> extends ControlCommon<In> {
  readonly host: string;
  /** TCP port to listen on; 0 lets the operating system choose one. */
  readonly port: number;
  /**
   * Returns undefined if the given peer, which holds the token, may connect; otherwise the reason
   * for refusing the peer.
   */
  readonly admit?: (hello: Hello) => Refusal | undefined;
  readonly joined: (channel: ControlChannel<Out>) => ChannelEvents<In>;
  /**
   * Called when a connection has ended before its handshake was complete. `address` is the IP
   * address of the peer, or empty if the address is unknown.
   */
  readonly turnedAway: (address: string, refusal: Refusal) => void;
}

export const controlPath = '/control';
/**
 * Largest size, in bytes, of the HTTP headers in the server's answer. The limit is set here because
 * a flag of Node could otherwise change it.
 */
const headerBytesMax = 4096;
/**
 * Largest number of bytes that may wait in this process to be sent. More bytes wait only if the
 * peer reads too slowly; the channel then closes with the refusal code `timeout`.
 */
const waitingBytesMax = 8 * messageBytesMax;

/**
 * Listens for control channels over WebSocket.
 *
 * @throws PodError `io` if the address cannot be bound.
 */
export function listenControl<In, Out>(options: ControlServerOptions<In, Out>): Promise<Listener> {
  const gate = new Gate((why) => {
    options.turnedAway('', { code: why, text: `no handshake: ${why}` });
  });
  const { host, port } = options;
  const place = { host, port, path: controlPath, maxPayload: messageBytesMax };
  return listenWebSocket(place, gate, (ws, socket) => serve(ws, socket, gate, options));
}

function serve<In, Out>(
  ws: WebSocket,
  socket: Socket,
  gate: Gate,
  options: ControlServerOptions<In, Out>,
): void {
  const wire = webSocketWire(ws, socket, { drained: () => undefined });
  const address = socket.remoteAddress ?? '';
  const session = acceptControl(wire, options, {
    joined: () => gate.pass(socket),
    turnedAway: (refusal) => options.turnedAway(address, refusal),
  });
  attach(ws, session, options.heartbeatMs);
}

/**
 * Creates the listening end of a control channel. `wire` sends bytes to the peer. In a pod the wire
 * is a WebSocket; tests use other wires.
 */
export function acceptControl<In, Out>(
  wire: Wire,
  options: Omit<ControlServerOptions<In, Out>, 'host' | 'port'>,
  events: { joined(): void; turnedAway(refusal: Refusal): void },
): ControlSession<In, Out> {
  const admit = options.admit ?? (() => undefined);
  const nonce = randomBytes(nonceBytes);
  const handshake = listeningHandshake(options.token, ['control'], nonce, admit);
  return new ControlSession<In, Out>(wire, handshake, options.check, {
    joined: (channel) => {
      events.joined();
      return options.joined(channel);
    },
    neverJoined: (refusal) => {
      events.turnedAway(
        refusal ?? { code: 'order', text: 'disconnected before the handshake was complete' },
      );
    },
  });
}

export interface ControlClientOptions<In, Out> extends ControlCommon<In> {
  /** URL of the server: `ws://host:port`. */
  readonly url: string;
  /** Called before each attempt to connect. Returns the hello that this end sends. */
  readonly hello: () => Omit<Hello, 'channel'>;
  readonly backoff: Backoff;
  /** Returns a random number in [0, 1), with which the delay before a retry is varied. */
  readonly random: () => number;
  readonly joined: (channel: ControlChannel<Out>) => ChannelEvents<In>;
  /**
   * Called when an attempt to connect has failed, and when an open channel has closed. The next
   * attempt begins `inMs` ms later.
   */
  readonly retrying: (refusal: Refusal | undefined, inMs: number) => void;
  /**
   * Called when the token or the protocol version of this process is wrong. After that there are no
   * more attempts to connect.
   */
  readonly failed: (error: PodError) => void;
}

/**
 * Connects to a control server. Whenever the channel closes, connects again. Ends when the caller
 * calls `close`. Also ends when the token or the protocol version is wrong, because no later
 * attempt would succeed.
 */
export function connectControl<In, Out>(
  options: ControlClientOptions<In, Out>,
): {
  close(): void;
} {
  let attempt = 0;
  let isOver = false;
  let timer: NodeJS.Timeout | undefined;
  let end: (() => void) | undefined;
  const gone = (refusal: Refusal | undefined): void => {
    end = undefined;
    if (isOver) return;
    if (refusal?.code === 'token' || refusal?.code === 'version') {
      isOver = true;
      options.failed(new PodError('bad-config', `${options.url}: ${refusal.text}`));
      return;
    }
    attempt++;
    const inMs = backoffMs(options.backoff, attempt, options.random());
    timer = setTimeout(dial, inMs);
    options.retrying(refusal, inMs);
  };
  const dial = (): void => {
    end = dialControl(options, () => (attempt = 0), gone);
  };
  dial();
  return {
    close() {
      isOver = true;
      clearTimeout(timer);
      end?.();
    },
  };
}

/**
 * Makes one attempt to connect. If the attempt succeeds, calls `joined`, and calls `gone` when the
 * channel closes. If the attempt fails, calls `gone` at once. Returns a function that closes the
 * connection.
 */
function dialControl<In, Out>(
  options: ControlClientOptions<In, Out>,
  joined: () => void,
  gone: (refusal: Refusal | undefined) => void,
): () => void {
  const ws = new WebSocket(`${options.url}${controlPath}`, {
    perMessageDeflate: false,
    maxPayload: messageBytesMax,
    maxHeaderSize: headerBytesMax,
    handshakeTimeout: handshakeMs,
    followRedirects: false,
  });
  const hello: Hello = { ...options.hello(), channel: 'control' };
  const handshake = connectingHandshake(options.token, hello, randomBytes(nonceBytes));
  const session = new ControlSession<In, Out>(clientWire(ws), handshake, options.check, {
    joined(channel) {
      clearTimeout(deadline);
      joined();
      const events = options.joined(channel);
      return {
        message: events.message,
        closed(refusal) {
          events.closed(refusal);
          gone(refusal);
        },
      };
    },
    neverJoined(refusal) {
      clearTimeout(deadline);
      gone(refusal);
    },
  });
  const deadline = setTimeout(() => {
    session.refuse({ code: 'timeout', text: `no handshake in ${handshakeMs} ms` });
    ws.terminate();
  }, handshakeMs);
  ws.on('open', () => ws.send(handshake.opening));
  attach(ws, session, options.heartbeatMs);
  return () => session.close();
}

const handshakeMs = 4000;

function clientWire(ws: WebSocket): Wire {
  return {
    write(head) {
      assert(head.length > 0, 'an empty message');
      if (ws.readyState !== ws.OPEN) return false;
      ws.send(head);
      return true;
    },
    get waiting() {
      return ws.bufferedAmount;
    },
    end(record) {
      if (record && ws.readyState === ws.OPEN) ws.send(record);
      if (ws.readyState === ws.CONNECTING) ws.terminate();
      else ws.close();
      setTimeout(() => ws.terminate(), closeMs).unref();
    },
  };
}

const closeMs = 200;

/**
 * Passes messages, errors and the end of a WebSocket to its session. Sends a ping every
 * `heartbeatMs` ms. If nothing arrives from the peer after two pings in a row, the next ping is not
 * sent. The session is closed instead.
 */
function attach<In, Out>(
  ws: WebSocket,
  session: ControlSession<In, Out>,
  heartbeatMs: number,
): void {
  let missed = 0;
  const alive = (): void => {
    missed = 0;
  };
  const timer = setInterval(() => {
    if (missed >= 2) {
      session.refuse({
        code: 'timeout',
        text: `the peer was silent for ${missed * heartbeatMs} ms`,
      });
      ws.terminate();
      return;
    }
    missed++;
    if (ws.readyState === ws.OPEN) ws.ping();
  }, heartbeatMs);
  ws.on('ping', alive);
  ws.on('pong', alive);
  ws.on('message', (data, isBinary) => {
    alive();
    if (isBinary && Buffer.isBuffer(data)) session.receive(data);
    else session.refuse({ code: 'message', text: 'a message that is not binary' });
  });
  ws.on('error', (error) => {
    session.closed({ code: 'peer', text: reasonOf(error) });
    ws.terminate();
  });
  ws.on('close', () => {
    clearInterval(timer);
    session.closed(undefined);
  });
}

/**
 * Returns the message of the given error. If a host name has several addresses and all of them
 * fail, Node reports an `AggregateError` without a message. Then returns the messages of its
 * errors, joined by commas.
 */
function reasonOf(error: Error): string {
  if (!(error instanceof AggregateError) || error.message !== '') return error.message;
  return [...new Set(error.errors.map(messageOf))].join(', ');
}

interface SessionEvents<In, Out> {
  joined(channel: ControlChannel<Out>): ChannelEvents<In>;
  neverJoined(refusal: Refusal | undefined): void;
}

/**
 * One end of a control channel over a WebSocket. During the handshake, both ends send frames. After
 * it, each message of the WebSocket is one msgpack value. One frame may still follow: a refuse
 * frame, which says why its sender closes the channel.
 */
export class ControlSession<In, Out> {
  readonly #connection: Connection;
  readonly #wire: Wire;
  readonly #check: (value: unknown) => In;
  #events: ChannelEvents<In> | undefined;

  constructor(
    wire: Wire,
    handshake: Handshake,
    check: (value: unknown) => In,
    events: SessionEvents<In, Out>,
  ) {
    this.#wire = wire;
    this.#check = check;
    this.#connection = new Connection(wire, handshake, {
      open: (hello) => {
        this.#events = events.joined({
          hello,
          send: (message) => this.#send(message),
          close: () => this.close(),
          refuse: (refusal) => this.refuse(refusal),
        });
        return noFrames;
      },
      closed: (refusal) => {
        if (this.#events) this.#events.closed(refusal);
        else events.neverJoined(refusal);
      },
    });
  }

  /** Processes one message of the WebSocket: a frame or a msgpack value. */
  receive(data: Buffer): void {
    if (this.#connection.isClosed) return;
    if (!this.#connection.isOpen || isFrame(data)) {
      this.#connection.push(data);
      return;
    }
    const message = this.#read(data);
    if (message !== undefined) this.#events?.message(message.value);
  }

  close(): void {
    this.#connection.close();
  }

  refuse(refusal: Refusal): void {
    this.#connection.refuse(refusal);
  }

  /** Ends the session without sending anything, because the WebSocket has closed or failed. */
  closed(refusal: Refusal | undefined): void {
    this.#connection.closed(refusal);
  }

  #send(message: Out): void {
    if (!this.#connection.isOpen) return;
    const bytes = encodeMessage(message);
    assert(bytes.length <= messageBytesMax, `a message of ${bytes.length} bytes`);
    this.#wire.write(bytes);
    if (this.#wire.waiting <= waitingBytesMax) return;
    this.refuse({
      code: 'timeout',
      text: `the peer reads too slowly: ${this.#wire.waiting} bytes wait`,
    });
  }

  #read(data: Buffer): { readonly value: In } | undefined {
    const decoded = decodeMessage(data);
    if (decoded.kind === 'refuse') {
      this.refuse(decoded.refusal);
      return undefined;
    }
    try {
      return { value: this.#check(decoded.value) };
    } catch (error) {
      if (!(error instanceof PodError)) throw error;
      this.refuse({ code: 'message', text: error.message });
      return undefined;
    }
  }
}

/**
 * Receiver of the frames that arrive on a control channel after the handshake. Accepts only a
 * refuse frame, which says why the peer closes the channel.
 */
const noFrames: FrameSink = {
  place: ({ kind, bytes }) =>
    kind === frameKinds.refuse
      ? new Uint8Array(bytes)
      : { code: 'order', text: 'a frame after the handshake' },
  accept: (header, payload) => readRefusal(header, payload),
};
