import type { ChannelEvents, ControlChannel } from '../net/control.ts';
import { listenControl } from '../net/control.ts';
import type { Refusal } from '../net/frame.ts';
import { type Hello, unnumbered } from '../net/handshake.ts';
import type { Listener } from '../net/listen.ts';
import type { Token } from '../net/token.ts';
import { checkFromNode, type FromNode, type ToNode } from './messages.ts';
import { RefusalLog } from './turned-away.ts';

/** Address and token of a {@link Lobby}. */
export interface LobbyOptions {
  readonly token: Token;
  readonly host: string;
  /** TCP port to listen on; 0 lets the system choose one. */
  readonly port: number;
  readonly log: (msg: string, fields: Readonly<Record<string, unknown>>) => void;
}

/**
 * A worker's process that is connected to the master. The process has a Cloud TPU or waits for one.
 */
export class JoinedProcess {
  readonly hello: Hello;
  readonly #channel: ControlChannel<ToNode>;
  #events: ChannelEvents<FromNode> | undefined;
  #isGone = false;

  constructor(channel: ControlChannel<ToNode>) {
    this.#channel = channel;
    this.hello = channel.hello;
  }

  /** True if the connection has ended. */
  get isGone(): boolean {
    return this.#isGone;
  }

  /** True if the process is connected and has no Cloud TPU. */
  get isWaiting(): boolean {
    return this.#events === undefined && !this.#isGone;
  }

  send(message: ToNode): void {
    this.#channel.send(message);
  }

  refuse(refusal: Refusal): void {
    this.#channel.refuse(refusal);
  }

  close(): void {
    this.#channel.close();
  }

  /** Marks the process as having a Cloud TPU. From now on its messages go to `events`. */
  seat(events: ChannelEvents<FromNode>): void {
    this.#events = events;
  }

  /**
   * Takes the Cloud TPU away from the process, which then waits in the lobby for another Cloud TPU.
   */
  unseat(): void {
    this.#events = undefined;
  }

  /**
   * Passes a message of this process to the pod in which this process has a Cloud TPU. Called by
   * the lobby.
   */
  message(message: FromNode): void {
    this.#events?.message(message);
  }

  /** Records that the connection has ended, and tells the pod. Called by the lobby. */
  closed(refusal: Refusal | undefined): void {
    this.#isGone = true;
    this.#events?.closed(refusal);
  }
}

/**
 * Interval in ms between two pings to a worker's process. The interval may be long, because the
 * failure detector finds a hung worker earlier: it sees that the worker makes no progress.
 */
const heartbeatMs = 20_000;
/**
 * Before the lobby closes, it waits for answers to the message `dismiss`: at most this many ms
 * longer than for workers that are still starting.
 */
const dismissMsLimit = 3000;

/** Options of {@link Lobby.dismiss}, which tells all workers that the run is over. */
export interface Dismissal {
  /**
   * How many workers must learn that the run is over, including workers that are still starting and
   * have not connected yet.
   */
  readonly expected: number;
  /** Longest time in ms that the lobby waits for workers that are still starting. */
  readonly withinMs: number;
  /** Time in ms that each worker's process keeps running after this master has ended. */
  readonly lingerMs: number;
}

/**
 * The master's listener: workers' processes join here and wait until a pod gives them a Cloud TPU.
 */
export class Lobby {
  readonly #guests: Set<JoinedProcess> = new Set();
  readonly #log: LobbyOptions['log'];
  #listener: Listener | undefined;
  /** Called when a process joins; undefined if no pod needs workers. */
  #arrived: (() => void) | undefined;
  #isClosing = false;
  /**
   * Time in ms that dismissed processes keep running after this master has ended; undefined until
   * the run is over.
   */
  #lingerMs: number | undefined;
  /** Processes that were sent `dismiss` and have neither answered nor disconnected. */
  readonly #unheard: Set<JoinedProcess> = new Set();
  /** How many processes were sent `dismiss` and have answered or disconnected. */
  #heard = 0;

  private constructor({ log }: LobbyOptions) {
    this.#log = log;
  }

  /** Opens a lobby. Throws PodError `io` if the address cannot be bound. */
  static async open(options: LobbyOptions): Promise<Lobby> {
    const lobby = new Lobby(options);
    const { token, host, port, log } = options;
    const turnedAway = new RefusalLog(log);
    lobby.#listener = await listenControl<FromNode, ToNode>({
      ...{ token, host, port, heartbeatMs, check: checkFromNode },
      admit: ({ role }) =>
        role === 'operator'
          ? { code: 'peer', text: 'expected a worker, found an operator' }
          : undefined,
      joined: (channel) => lobby.#enter(new JoinedProcess(channel)),
      turnedAway: (address, refusal) => turnedAway.add(address, refusal),
    });
    log('listening', { port: lobby.port });
    return lobby;
  }

  /** TCP port on which the lobby listens. */
  get port(): number {
    return this.#listener?.port ?? 0;
  }

  /** Processes without a Cloud TPU, in the order in which they joined. */
  get waiting(): readonly JoinedProcess[] {
    return [...this.#guests].filter(({ isWaiting }) => isWaiting);
  }

  /**
   * Sets the function to call whenever a process joins; undefined removes the function. If
   * processes without a Cloud TPU wait already, calls the new function at once.
   */
  attend(arrived: (() => void) | undefined): void {
    this.#arrived = arrived;
    if (this.waiting.length > 0) arrived?.();
  }

  /** Stops listening and disconnects all processes. The processes then look for the next master. */
  async close(): Promise<void> {
    this.#isClosing = true;
    await this.#listener?.close();
  }

  /**
   * Tells the workers' processes that the run is over, then closes the lobby. Sends `dismiss` to
   * every connected process, and to every process that joins before the lobby closes. A process
   * counts as told when it has answered or disconnected.
   *
   * First waits until `expected` processes are told, but at most `withinMs` ms. Then waits until
   * every process that was sent `dismiss` is told, but at most `dismissMsLimit` ms more.
   */
  async dismiss({ expected, withinMs, lingerMs }: Dismissal): Promise<void> {
    this.#isClosing = true;
    this.#lingerMs = lingerMs;
    for (const guest of this.#guests) this.#sendHome(guest);
    const startMs = performance.now();
    const isDone = (): boolean => {
      const waitedMs = performance.now() - startMs;
      const areAllHere = this.#heard >= expected || waitedMs > withinMs;
      return areAllHere && (this.#unheard.size === 0 || waitedMs > withinMs + dismissMsLimit);
    };
    while (!isDone()) await new Promise((resolve) => setTimeout(resolve, 10));
    await this.#listener?.close();
  }

  #sendHome(guest: JoinedProcess): void {
    this.#unheard.add(guest);
    guest.send({ kind: 'dismiss', lingerMs: this.#lingerMs ?? 0 });
  }

  /** Records that a dismissed process has answered `dismissed` or has disconnected. */
  #hear(guest: JoinedProcess): void {
    if (this.#unheard.delete(guest)) this.#heard++;
  }

  #enter(guest: JoinedProcess): ChannelEvents<FromNode> {
    this.#guests.add(guest);
    if (this.#lingerMs !== undefined) this.#sendHome(guest);
    else this.#arrived?.();
    if (this.#arrived && guest.isWaiting) this.#log('spare', { spares: this.waiting.length });
    return {
      message: (message) => {
        if (message.kind === 'dismissed') this.#hear(guest);
        else if (message.kind === 'unable' && guest.isWaiting) this.#tellUnable(guest, message);
        else guest.message(message);
      },
      closed: (refusal) => {
        const wasWaiting = guest.isWaiting;
        this.#guests.delete(guest);
        this.#hear(guest);
        guest.closed(refusal);
        if (!wasWaiting || this.#isClosing) return;
        this.#log('spare-gone', { cause: refusal?.text, spares: this.waiting.length });
      },
    };
  }

  /**
   * Logs the error that a waiting process reports with `unable`. A pod logs the errors of its own
   * processes, but a waiting process belongs to no pod.
   */
  #tellUnable({ hello }: JoinedProcess, { code, message }: FromNode & { kind: 'unable' }): void {
    const rank = hello.from === unnumbered ? undefined : hello.from;
    this.#log('worker-unable', { rank, code, cause: message });
  }
}
