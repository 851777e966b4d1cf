import { PodError } from '../../src/numerics/error.ts';
import { limits } from '../limits.ts';
import { formatPlace } from '../net/address.ts';
import { type ChannelEvents, type ControlChannel, connectControl } from '../net/control.ts';
import type { Refusal } from '../net/frame.ts';
import { type Hello, unnumbered } from '../net/handshake.ts';
import type { Token } from '../net/token.ts';
import { type Assignment, readAssignment } from '../process/assignment.ts';
import { checkToNode, type FromNode, type ToNode } from '../process/messages.ts';
import { Node } from '../process/node.ts';
import { bindAddress, localAddress } from './address.ts';

/** Constructor arguments of a {@link Session}. */
export interface SessionOptions {
  /** Host name or address of the master. */
  readonly host: string;
  /** TCP port of the master's control channel. */
  readonly port: number;
  readonly token: Token;
  /** Number of the Cloud TPU that the session asks for; undefined if the master is to choose. */
  readonly rank: number | undefined;
  /**
   * True if the session is for a lost Cloud TPU, which this process emulates in addition to its
   * own. The master refuses the session if the lost Cloud TPU has got a replacement before the session was
   * opened. The session then ends.
   */
  readonly isHosted: boolean;
  /**
   * Host name or address at which other machines reach this machine. If undefined, the session uses
   * the address of this machine from which packets to the master are sent.
   */
  readonly address: string | undefined;
  /** TCP port to which neighbours connect; 0 lets the system choose one. */
  readonly tensorPort: number;
  /**
   * Called when the master asks this process to emulate lost Cloud TPU `tpu` in addition to its
   * own.
   */
  readonly asked: (tpu: number) => void;
  /**
   * Called with true when the Cloud TPU has loaded its programs, and with false when the Cloud TPU
   * can run no further step, for example because the master is gone.
   */
  readonly ready: (isReady: boolean) => void;
  /**
   * Called after each failed attempt to reach a master. Returns true if the run is known to be
   * over; then the session ends.
   */
  readonly isRunOver: () => boolean;
  /**
   * Called once, when the session has ended. `error` is the error that ended the session, or
   * undefined if the session ended without one.
   */
  readonly over: (error: PodError | undefined) => void;
  readonly log: (msg: string, fields: Readonly<Record<string, unknown>>) => void;
}

/** Returns the URL of the control channel of a master: `ws://host:port`. */
export function masterUrl({ host, port }: Pick<SessionOptions, 'host' | 'port'>): string {
  return `ws://${formatPlace({ host, port })}`;
}

/** State of the session's search for a master. */
interface Waiting {
  /** Time in ms at which the search began. */
  readonly sinceMs: number;
  /**
   * Time of the last log line about the search, in ms after the search began; 0 if there was none
   * yet.
   */
  readonly saidMs: number;
  /** Reason why the last attempt found no master. */
  readonly cause: string;
}

/** Time in ms from the start of a search for a master to the first log line about the search. */
const firstSayMs = 1000;
/** Period of the pings to the master, in ms. */
const heartbeatMs = 3000;
/**
 * Longest time in ms that a session waits for its master to end after the message `dismiss`, which
 * says that the run is over. If the master still runs then, the session ends `lingerMs` ms later;
 * the message states `lingerMs`.
 */
const masterMsLimit = 15_000;
/** First and longest delay, in ms, between two attempts to connect to the master. */
const backoff = { firstMs: 50, mostMs: 1000 };

/**
 * A worker's connection to its master, and the Cloud TPU that the master has given to the worker.
 * When the master is gone, the session looks for it or for the next master. Meanwhile the session
 * keeps the memory of the Cloud TPU, because a restarted master may need the parameters.
 */
export class Session {
  readonly #options: SessionOptions;
  readonly #client: { close(): void };
  #channel: ControlChannel<FromNode> | undefined;
  /** Pieces of the executables that have arrived so far. */
  #pieces: Uint8Array[] = [];
  #node: Node | undefined;
  /** What the master said about the Cloud TPU and its pod: an {@link Assignment}, as JSON text. */
  #assignment = '';
  /** Timer that ends the session if no master is found in time. */
  #late: NodeJS.Timeout | undefined;
  /** State of the search for a master. */
  #waiting: Waiting = { sinceMs: 0, saidMs: 0, cause: '' };
  /**
   * Time in ms from the end of the master to the end of the session. The master's message `dismiss`
   * states this time; undefined before this message.
   */
  #lingerMs: number | undefined;
  /** Timer that ends the session some time after the message `dismiss`. */
  #lingering: NodeJS.Timeout | undefined;
  #isOver = false;
  /**
   * Resolves when all messages received so far have been processed. Messages are processed one at a
   * time, in order of arrival.
   */
  #work: Promise<void> = Promise.resolve();

  constructor(options: SessionOptions) {
    this.#options = options;
    this.#expectMaster();
    const { host, port, token } = options;
    this.#client = connectControl<ToNode, FromNode>({
      ...{
        token,
        url: masterUrl({ host, port }),
        heartbeatMs,
        backoff,
        check: checkToNode,
      },
      hello: () => this.#hello(),
      random: Math.random,
      joined: (channel) => this.#joined(channel),
      retrying: (refusal) => {
        if (options.isRunOver()) void this.end();
        else this.#sayWaiting(refusal);
      },
      failed: (error) => void this.end(error),
    });
  }

  /**
   * Ends the session and its Cloud TPU. If there is an error and a master is connected, first
   * reports the error to the master.
   */
  async end(error?: PodError): Promise<void> {
    if (this.#isOver) return;
    this.#isOver = true;
    clearTimeout(this.#late);
    clearTimeout(this.#lingering);
    if (error !== undefined) this.#channel?.send(lastWordsOf(error));
    this.#client.close();
    await this.#node?.end();
    this.#options.over(error);
  }

  #hello(): Omit<Hello, 'channel'> {
    const from = this.#node?.tpu ?? this.#options.rank ?? unnumbered;
    return { role: 'worker', from, to: unnumbered, generation: this.#node?.generation ?? 0 };
  }

  #joined(channel: ControlChannel<FromNode>): ChannelEvents<ToNode> {
    clearTimeout(this.#late);
    this.#channel = channel;
    this.#pieces = [];
    return {
      message: (message) => this.#receive(message),
      closed: (refusal) => this.#masterGone(refusal),
    };
  }

  #receive(message: ToNode): void {
    switch (message.kind) {
      case 'code':
        this.#pieces.push(Uint8Array.from(message.bytes));
        return;
      case 'welcome':
        this.#next(() => this.#welcome(message));
        return;
      case 'host':
        this.#options.asked(message.tpu);
        return;
      case 'dismiss':
        void this.#dismissed(message.lingerMs);
        return;
      default:
        this.#next(async () => this.#node?.receive(message));
    }
  }

  #next(work: () => Promise<void>): void {
    this.#work = this.#work.then(work).catch((error: unknown) => {
      void this.end(
        error instanceof PodError ? error : new PodError('worker-threw', String(error), error),
      );
    });
  }

  /**
   * Handles `dismiss`, which says that the run is over: sends the answer, ends the Cloud TPU, and
   * ends the session `lingerMs` ms after the master has ended.
   */
  async #dismissed(lingerMs: number): Promise<void> {
    this.#lingerMs = lingerMs;
    this.#channel?.send({ kind: 'dismissed' });
    if (lingerMs === 0) return this.end();
    this.#lingering = setTimeout(() => void this.end(), masterMsLimit + lingerMs);
    await this.#drop();
  }

  /**
   * Handles `welcome`, by which the master gives a Cloud TPU. If the session already has this Cloud
   * TPU with the same assignment, keeps the Cloud TPU with its memory. Otherwise ends the old Cloud
   * TPU and starts the new one.
   */
  async #welcome({ tpu, assignment: text }: ToNode & { kind: 'welcome' }): Promise<void> {
    const code = Buffer.concat(this.#pieces);
    this.#pieces = [];
    if (this.#isOver) return;
    const own = await this.#address();
    const present = this.#node;
    if (present?.tpu === tpu && this.#assignment === text) {
      this.#options.log('welcome-back', { tpu, generation: present.generation });
      present.greet(own);
      return;
    }
    await this.#drop();
    this.#options.log('welcome', { tpu });
    this.#assignment = text;
    await this.#take(tpu, readAssignment(text), code, own);
  }

  /**
   * Returns the host name or address at which other machines reach this machine. An address that is
   * not configured is determined anew at each call, because the network may have changed.
   */
  async #address(): Promise<string> {
    const { host, port, address } = this.#options;
    return address ?? (await localAddress(host, port));
  }

  async #take(tpu: number, assignment: Assignment, code: Uint8Array, own: string): Promise<void> {
    const { token, tensorPort, log, ready } = this.#options;
    const node: Node = new Node({
      ...{ tpu, assignment, code, token, host: own, port: tensorPort, env: process.env },
      // `own` is a loopback address if the master is on this machine. The node then listens on this
      // address only.
      bind: await bindAddress(own),
      send: (message) => this.#channel?.send(message),
      ended: (error) => this.#ended(node, error),
      log(msg, fields) {
        if (msg === 'ready') ready(true);
        log(msg, { tpu, ...fields });
      },
    });
    this.#node = node;
    await node.start();
  }

  /**
   * Handles the end of `node`, which emulates the Cloud TPU. If the node ended with an error, ends
   * the session with that error; the process then ends too, and is restarted. If the master stopped
   * the node, reports `left` to the master.
   */
  #ended(node: Node, error: PodError | undefined): void {
    if (this.#node !== node) return;
    this.#node = undefined;
    this.#options.ready(false);
    if (error !== undefined) void this.end(error);
    else this.#channel?.send({ kind: 'left' });
  }

  /**
   * Ends the Cloud TPU without reporting `left` to the master. The master may have given this
   * worker a new Cloud TPU already, and would take `left` as the end of the new one.
   */
  async #drop(): Promise<void> {
    const node = this.#node;
    this.#node = undefined;
    this.#options.ready(false);
    await node?.end();
  }

  #masterGone(refusal: Refusal | undefined): void {
    this.#channel = undefined;
    if (this.#isOver) return;
    this.#options.ready(false);
    if (this.#lingerMs !== undefined) {
      this.#client.close();
      clearTimeout(this.#lingering);
      this.#lingering = setTimeout(() => void this.end(), this.#lingerMs);
      return;
    }
    this.#options.log('master-gone', { cause: refusal?.text ?? 'the connection was closed' });
    // A master that refuses the worker has given the Cloud TPU away, and nobody needs its memory. If
    // the worker was only silent, or the connection ended, this master or the next may still need it.
    const isRefused = refusal?.isTheirs === true;
    if (isRefused && this.#options.isHosted) return void this.end();
    if (isRefused && refusal.code !== 'timeout') this.#next(() => this.#drop());
    else this.#node?.pause();
    this.#expectMaster();
  }

  #expectMaster(): void {
    clearTimeout(this.#late);
    this.#waiting = { sinceMs: performance.now(), saidMs: 0, cause: '' };
    this.#late = setTimeout(() => {
      const { cause } = this.#waiting;
      const found = `none within ${limits.searchMs} ms${cause && `: ${cause}`}`;
      void this.end(
        new PodError(
          'no-master',
          `expected a master at ${formatPlace(this.#options)}, found ${found}`,
        ),
      );
    }, limits.searchMs);
  }

  /**
   * Logs every few seconds that the session is looking for a master, and why the last attempt
   * failed, for example an unknown host name or a refused connection.
   */
  #sayWaiting(refusal: Refusal | undefined): void {
    const { sinceMs, saidMs } = this.#waiting;
    const waitedMs = Math.round(performance.now() - sinceMs);
    const cause = refusal?.text ?? 'the connection was closed';
    this.#waiting = { ...this.#waiting, cause };
    if (waitedMs < saidMs + (saidMs === 0 ? firstSayMs : limits.searchLogMs)) return;
    this.#waiting = { sinceMs, saidMs: waitedMs, cause };
    const master = formatPlace(this.#options);
    this.#options.log('awaits-master', { master, cause, waitedMs, waitMsLimit: limits.searchMs });
  }
}

/** Returns the message to the master about the error that ends this process. */
export function lastWordsOf({ code, message }: PodError): FromNode {
  return { kind: 'unable', code, message: message.slice(0, lastWordsMax) };
}

/** Longest error message sent to the master, in characters. */
const lastWordsMax = 1000;
