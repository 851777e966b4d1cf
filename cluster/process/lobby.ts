import type { ChannelEvents, ControlChannel } from '../net/control.ts';
import { listenControl } from '../net/control.ts';
import type { Refusal } from '../net/frame.ts';
import type { Hello } from '../net/handshake.ts';
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

  /** For the lobby: what its channel brings. What one that waits still says is of no interest. */
  message(message: FromNode): void {
    this.#events?.message(message);
  }

  /** For the lobby. */
  closed(refusal: Refusal | undefined): void {
    this.#isGone = true;
    this.#events?.closed(refusal);
  }
}

/** Workers' processes are pinged this often, in ms; pulses tell of those that hang. */
const heartbeatMs = 20_000;
/** How long processes may take to go once they are dismissed, in ms. */
const leaveMsLimit = 3000;

/** Where workers' processes join, and wait until a pod has a Cloud TPU for them. */
export class Lobby {
  readonly #guests: Set<Guest> = new Set();
  readonly #log: LobbyOptions['log'];
  #listener: Listener | undefined;
  #arrived: (() => void) | undefined;
  #isClosing = false;

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

  /** Those without a Cloud TPU, in the order in which they came. */
  get waiting(): readonly Guest[] {
    return [...this.#guests].filter(({ isWaiting }) => isWaiting);
  }

  /** `arrived` is called whenever somebody has come who waits; undefined: nobody asks any more. */
  attend(arrived: (() => void) | undefined): void {
    this.#arrived = arrived;
    if (this.waiting.length > 0) arrived?.();
  }

  /** Stops listening. Those who are here are sent home, or else only cut off: they will be back. */
  async close(goodbye: 'dismiss' | 'leave'): Promise<void> {
    this.#isClosing = true;
    if (goodbye === 'dismiss') {
      for (const guest of this.#guests) guest.send({ kind: 'dismiss' });
      const deadlineMs = performance.now() + leaveMsLimit;
      while (this.#guests.size > 0 && performance.now() < deadlineMs) {
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    }
    await this.#listener?.close();
  }

  #enter(guest: Guest): ChannelEvents<FromNode> {
    this.#guests.add(guest);
    this.#arrived?.();
    if (this.#arrived && guest.isWaiting) this.#log('spare', { spares: this.waiting.length });
    return {
      message: (message) => guest.message(message),
      closed: (refusal) => {
        const wasWaiting = guest.isWaiting;
        this.#guests.delete(guest);
        guest.closed(refusal);
        if (!wasWaiting || this.#isClosing) return;
        this.#log('spare-gone', { cause: refusal?.text, spares: this.waiting.length });
      },
    };
  }
}
