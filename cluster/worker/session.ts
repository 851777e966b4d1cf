import { PodError } from '../../src/numerics/error.ts';
import { formatPlace } from '../net/address.ts';
import { type ChannelEvents, type ControlChannel, connectControl } from '../net/control.ts';
import type { Refusal } from '../net/frame.ts';
import { type Hello, unnumbered } from '../net/handshake.ts';
import type { Token } from '../net/token.ts';
import { type Assignment, readAssignment } from '../process/assignment.ts';
import { checkToNode, type FromNode, type ToNode } from '../process/messages.ts';
import { Node } from '../process/node.ts';
import { bindAddress, localAddress } from './address.ts';

export interface SessionOptions {
  /** Where the master is. */
  readonly host: string;
  readonly port: number;
  readonly token: Token;
  /** The Cloud TPU that it would have; undefined when the master is to choose. */
  readonly rank: number | undefined;
  /** It is one more of a process that has its own: it is over when it has been replaced. */
  readonly isHosted: boolean;
  /** What others call this machine; undefined: the address from which the master is reached. */
  readonly address: string | undefined;
  /** Where neighbours connect; 0 for any. */
  readonly tensorPort: number;
  /** It is asked to join for another Cloud TPU too. */
  readonly asked: (tpu: number) => void;
  /** It takes part, or no more. */
  readonly ready: (isReady: boolean) => void;
  /** Whether the run of this pod is known to be over: asked while no master answers. */
  readonly isRunOver: () => boolean;
  /** All is done, or what went wrong for good. Comes once. */
  readonly over: (error: PodError | undefined) => void;
  readonly log: (msg: string, fields: Readonly<Record<string, unknown>>) => void;
}

interface Waiting {
  readonly sinceMs: number;
  /** In ms from `sinceMs`; 0 if it has not. */
  readonly saidMs: number;
  readonly cause: string;
}

/** When it first says what it waits for, and how often then, in ms. */
const firstSayMs = 1000;
const sayMs = 5000;
/** How long it looks for a master, and how often it pings it, in ms. */
const joinMsLimit = 180_000;
const heartbeatMs = 3000;
/** How long a master may take to end once it has said that the run is over, in ms. */
const masterMsLimit = 15_000;
const backoff = { firstMs: 50, mostMs: 1000 };

/**
 * One place for a Cloud TPU in this process. A session joins the master, takes the Cloud TPU that it is given,
 * and joins again whenever the master is gone. It keeps its memory meanwhile: a master that was started again
 * may need it.
 */
export class Session {
  readonly #options: SessionOptions;
  readonly #client: { close(): void };
  #channel: ControlChannel<FromNode> | undefined;
  #pieces: Uint8Array[] = [];
  #node: Node | undefined;
  /** As it came, of the node. */
  #assignment = '';
  #late: NodeJS.Timeout | undefined;
  /** Since when it has looked for a master, when it last said so, and why there is none. */
  #waiting: Waiting = { sinceMs: 0, saidMs: 0, cause: '' };
  /** Given when the run is over: how long to live on after the master. */
  #lingerMs: number | undefined;
  #lingering: NodeJS.Timeout | undefined;
  #isOver = false;
  /** One welcome or farewell after another: both take their time. */
  #work: Promise<void> = Promise.resolve();

  constructor(options: SessionOptions) {
    this.#options = options;
    this.#expectMaster();
    const { host, port, token } = options;
    this.#client = connectControl<ToNode, FromNode>({
      ...{
        token,
        url: `ws://${formatPlace({ host, port })}`,
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

  /** Ends all that it has; a master that is there hears of the error. */
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

  /** The run is over: nothing is kept, and the process ends some time after its master. */
  async #dismissed(lingerMs: number): Promise<void> {
    this.#lingerMs = lingerMs;
    this.#channel?.send({ kind: 'dismissed' });
    if (lingerMs === 0) return this.end();
    this.#lingering = setTimeout(() => void this.end(), masterMsLimit + lingerMs);
    await this.#drop();
  }

  /** Takes a Cloud TPU: goes on with what is here if it is the same. */
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

  /** What others call this machine: another than before, when its network has changed. */
  async #address(): Promise<string> {
    const { host, port, address } = this.#options;
    return address ?? (await localAddress(host, port));
  }

  async #take(tpu: number, assignment: Assignment, code: Uint8Array, own: string): Promise<void> {
    const { token, tensorPort, log, ready } = this.#options;
    const node: Node = new Node({
      ...{ tpu, assignment, code, token, host: own, port: tensorPort },
      // Others on this machine only need loopback.
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

  /** A node that failed fails its process, which is started anew; else it was told to leave. */
  #ended(node: Node, error: PodError | undefined): void {
    if (this.#node !== node) return;
    this.#node = undefined;
    this.#options.ready(false);
    if (error !== undefined) void this.end(error);
    else this.#channel?.send({ kind: 'left' });
  }

  /** Gives up what it has. Nobody hears of it: whoever is told that it left means its next place. */
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
    if (!isTurnedAway(refusal)) this.#node?.pause();
    else if (this.#options.isHosted) return void this.end();
    else this.#next(() => this.#drop());
    this.#expectMaster();
  }

  #expectMaster(): void {
    clearTimeout(this.#late);
    this.#waiting = { sinceMs: performance.now(), saidMs: 0, cause: '' };
    this.#late = setTimeout(() => {
      const { cause } = this.#waiting;
      const found = `none for ${joinMsLimit} ms${cause && `: ${cause}`}`;
      void this.end(
        new PodError(
          'no-master',
          `expected a master at ${formatPlace(this.#options)}, found ${found}`,
        ),
      );
    }, joinMsLimit);
  }

  /** Says once in a few seconds what it waits for: a name that is not known yet, or nobody there. */
  #sayWaiting(refusal: Refusal | undefined): void {
    const { sinceMs, saidMs } = this.#waiting;
    const waitedMs = Math.round(performance.now() - sinceMs);
    const cause = refusal?.text ?? 'the connection was closed';
    this.#waiting = { ...this.#waiting, cause };
    if (waitedMs < saidMs + (saidMs === 0 ? firstSayMs : sayMs)) return;
    this.#waiting = { sinceMs, saidMs: waitedMs, cause };
    const master = formatPlace(this.#options);
    this.#options.log('awaits-master', { master, cause, waitedMs, waitMsLimit: joinMsLimit });
  }
}

/** What a master is told of an error that ends this process. */
export function lastWordsOf({ code, message }: PodError): FromNode {
  return { kind: 'unable', code, message: message.slice(0, lastWordsMax) };
}

/** In characters. */
const lastWordsMax = 1000;

/**
 * Whether the master wants nothing of what it has: it has been replaced, and begins anew. A master
 * that ended or fell silent may need it, or the next one.
 */
function isTurnedAway(refusal: Refusal | undefined): boolean {
  return refusal?.isTheirs === true;
}
