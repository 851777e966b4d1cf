import { randomBytes } from 'node:crypto';
import type { Socket } from 'node:net';
import { WebSocket } from 'ws';
import { assert } from '../../src/numerics/assert.ts';
import { PodError } from '../../src/numerics/error.ts';
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

/** What carries messages to one peer that has proven itself. */
export interface ControlChannel<Out> {
  /** What the end that connected said of itself. */
  readonly hello: Hello;
  /** Sends a message; does nothing once the channel has closed. */
  send(message: Out): void;
  close(): void;
  /** Closes because of what the peer did, telling it. */
  refuse(refusal: Refusal): void;
}

/** What happens on a channel. */
export interface ChannelEvents<In> {
  message(message: In): void;
  /** Comes once; without a refusal when the peer has gone. */
  closed(refusal: Refusal | undefined): void;
}

export interface ControlCommon<In> {
  readonly token: Token;
  /** Checks what was decoded, against the schema of its kind. Throws `PodError` naming the field. */
  readonly check: (value: unknown) => In;
  /** A peer is pinged this often, and given up after two in a row without any sign of it, in ms. */
  readonly heartbeatMs: number;
}

export interface ControlServerOptions<In, Out> extends ControlCommon<In> {
  readonly host: string;
  /** 0 for any. */
  readonly port: number;
  /** Why a peer that holds the token may not join all the same, if so. */
  readonly admit?: (hello: Hello) => Refusal | undefined;
  readonly joined: (channel: ControlChannel<Out>) => ChannelEvents<In>;
  /** One that never joined: its address, and why. */
  readonly turnedAway: (address: string, refusal: Refusal) => void;
}

export const controlPath = '/control';
/** The most bytes of the headers of an answer, whatever flags of node say. */
const headerBytesMax = 4096;
/** A peer that reads slower than this many bytes behind is given up. */
const waitingBytesMax = 8 * messageBytesMax;

/**
 * Listens for control channels.
 *
 * @throws PodError `io` when the address cannot be had.
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

/** The listening end of a channel over any wire; for {@link listenControl}, and to be tested. */
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
        refusal ?? { code: 'order', text: 'gone before the handshake was through' },
      );
    },
  });
}

export interface ControlClientOptions<In, Out> extends ControlCommon<In> {
  /** `ws://host:port`. */
  readonly url: string;
  /** Asked before each attempt: what this end says of itself. */
  readonly hello: () => Omit<Hello, 'channel'>;
  readonly backoff: Backoff;
  /** In [0, 1), for the backoff. */
  readonly random: () => number;
  readonly joined: (channel: ControlChannel<Out>) => ChannelEvents<In>;
  /** An attempt has failed, or the channel has gone; the next comes in `inMs`. */
  readonly retrying: (refusal: Refusal | undefined, inMs: number) => void;
  /** No use in trying again: the token or the version is wrong. */
  readonly failed: (error: PodError) => void;
}

/** Connects, and connects again whenever the channel is gone, until it is closed or refused. */
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

/** One attempt. `gone` comes once, after which nothing of it is left. */
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

/** Feeds what comes from a WebSocket into a session, and watches for signs of life. */
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
      session.refuse({ code: 'timeout', text: `silent for ${missed * heartbeatMs} ms` });
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

/** A name with several addresses has an error for each of them. */
function reasonOf(error: Error): string {
  if (!(error instanceof AggregateError) || error.message !== '') return error.message;
  return [
    ...new Set(error.errors.map((it) => (it instanceof Error ? it.message : String(it)))),
  ].join(', ');
}

interface SessionEvents<In, Out> {
  joined(channel: ControlChannel<Out>): ChannelEvents<In>;
  neverJoined(refusal: Refusal | undefined): void;
}

/** One end of a channel: the handshake as frames, then a msgpack value in each message. */
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

  /** Takes one message of the WebSocket. */
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

  /** The WebSocket has gone. */
  closed(refusal: Refusal | undefined): void {
    this.#connection.closed(refusal);
  }

  #send(message: Out): void {
    if (!this.#connection.isOpen) return;
    const bytes = encodeMessage(message);
    assert(bytes.length <= messageBytesMax, `a message of ${bytes.length} bytes`);
    this.#wire.write(bytes);
    if (this.#wire.waiting <= waitingBytesMax) return;
    this.refuse({ code: 'timeout', text: `${this.#wire.waiting} bytes behind` });
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

/** After the handshake no frames come but a refusal: the other end's last words. */
const noFrames: FrameSink = {
  place: ({ kind, bytes }) =>
    kind === frameKinds.refuse
      ? new Uint8Array(bytes)
      : { code: 'order', text: 'a frame after the handshake' },
  accept: (header, payload) => readRefusal(header, payload),
};
