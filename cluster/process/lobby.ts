import type { ChannelEvents, ControlChannel } from '../net/control.ts';
import { listenControl } from '../net/control.ts';
import type { Refusal } from '../net/frame.ts';
import { type Hello, unnumbered } from '../net/handshake.ts';
import type { Listener } from '../net/listen.ts';
import type { Token } from '../net/token.ts';
import { checkFromNode, type FromNode, type ToNode } from './messages.ts';
import { TurnedAway } from './turned-away.ts';

export interface LobbyOptions {
  readonly token: Token;
  readonly host: string;
  /** 0 for any. */
  readonly port: number;
  readonly log: (msg: string, fields: Readonly<Record<string, unknown>>) => void;
}

/** A process that has joined; it waits for a Cloud TPU, or has one. */
export class Guest {
  readonly hello: Hello;
  readonly #channel: ControlChannel<ToNode>;
  #events: ChannelEvents<FromNode> | undefined;
  #isGone = false;

  constructor(channel: ControlChannel<ToNode>) {
    this.#channel = channel;
    this.hello = channel.hello;
  }

  get isGone(): boolean {
    return this.#isGone;
  }

  /** Whether it has no Cloud TPU. */
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

  /** It gets a Cloud TPU: what comes from it goes to `events` from here on. */
  seat(events: ChannelEvents<FromNode>): void {
    this.#events = events;
  }

  /** It has none any more, and waits. */
  unseat(): void {
    this.#events = undefined;
  }

  /** For the lobby: what its channel brings, to the pod in which it has a Cloud TPU. */
  message(message: FromNode): void {
    this.#events?.message(message);
  }

  /** For the lobby. */
  closed(refusal: Refusal | undefined): void {
    this.#isGone = true;
    this.#events?.closed(refusal);
  }
}

/** Workers' processes are pinged this often, in ms; heartbeats tell of those that hang. */
const heartbeatMs = 20_000;
/** How long processes may take to hear that the run is over, in ms. */
const dismissMsLimit = 3000;

/** How the workers hear that the run is over. */
export interface Dismissal {
  /** Workers that may still be starting: they are waited for, up to so many in all. */
  readonly expected: number;
  /** How long those are waited for, in ms. */
  readonly withinMs: number;
  /** How long each process lives on after this master has gone, in ms. */
  readonly lingerMs: number;
}

/** Where workers' processes join, and wait until a pod has a Cloud TPU for them. */
export class Lobby {
  readonly #guests: Set<Guest> = new Set();
  readonly #log: LobbyOptions['log'];
  #listener: Listener | undefined;
  #arrived: (() => void) | undefined;
  #isClosing = false;
  /** Given once the run is over. */
  #lingerMs: number | undefined;
  /** Workers that were told so and have not answered, and the number of those that have. */
  readonly #unheard: Set<Guest> = new Set();
  #heard = 0;

  private constructor({ log }: LobbyOptions) {
    this.#log = log;
  }

  /** @throws PodError `io` when the address cannot be had. */
  static async open(options: LobbyOptions): Promise<Lobby> {
    const lobby = new Lobby(options);
    const { token, host, port, log } = options;
    const turnedAway = new TurnedAway(log);
    lobby.#listener = await listenControl<FromNode, ToNode>({
      ...{ token, host, port, heartbeatMs, check: checkFromNode },
      admit: ({ role }) =>
        role === 'operator' ? { code: 'peer', text: 'an operator has no place here' } : undefined,
      joined: (channel) => lobby.#enter(new Guest(channel)),
      turnedAway: (address, refusal) => turnedAway.add(address, refusal),
    });
    log('listening', { port: lobby.port });
    return lobby;
  }

  get port(): number {
    return this.#listener?.port ?? 0;
  }

  /** Workers without a Cloud TPU, in the order in which they came. */
  get waiting(): readonly Guest[] {
    return [...this.#guests].filter(({ isWaiting }) => isWaiting);
  }

  /** `arrived` is called whenever somebody has come who waits; undefined: nobody asks any more. */
  attend(arrived: (() => void) | undefined): void {
    this.#arrived = arrived;
    if (this.waiting.length > 0) arrived?.();
  }

  /** Stops listening and cuts off those who are here: they look for the next master. */
  async close(): Promise<void> {
    this.#isClosing = true;
    await this.#listener?.close();
  }

  /**
   * Tells everybody that the run is over, also those who come while this lasts, and then closes. It
   * ends when all who are here have heard it and as many as expected have come, or with the time.
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

  #sendHome(guest: Guest): void {
    this.#unheard.add(guest);
    guest.send({ kind: 'dismiss', lingerMs: this.#lingerMs ?? 0 });
  }

  /** One has heard that the run is over, or has gone. */
  #hear(guest: Guest): void {
    if (this.#unheard.delete(guest)) this.#heard++;
  }

  #enter(guest: Guest): ChannelEvents<FromNode> {
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

  /** One without a Cloud TPU gave up: nobody else tells why. */
  #tellUnable({ hello }: Guest, { code, message }: FromNode & { kind: 'unable' }): void {
    const rank = hello.from === unnumbered ? undefined : hello.from;
    this.#log('worker-unable', { rank, code, cause: message });
  }
}
