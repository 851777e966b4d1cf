import type { Socket } from 'node:net';

/** How long a connection may take to prove itself, in ms, where nothing else is said. */
export const handshakeMsMax = 2000;
/** How many may be at it at once. */
export const pendingMax = 64;

/**
 * Holds those who have connected and not yet proven themselves: only so long, and only so many. When
 * there are too many the oldest has to go, since an honest one is through in a few milliseconds.
 */
export class Gate {
  readonly #pending: Map<Socket, NodeJS.Timeout> = new Map();
  readonly #turnedAway: (why: 'timeout' | 'too-many') => void;
  /** How long each may take, in ms. */
  readonly msMax: number;

  constructor(turnedAway: (why: 'timeout' | 'too-many') => void, msMax: number = handshakeMsMax) {
    this.#turnedAway = turnedAway;
    this.msMax = msMax;
  }

  get pending(): number {
    return this.#pending.size;
  }

  /** A new connection. */
  enter(socket: Socket): void {
    const oldest = this.#pending.keys().next().value;
    if (oldest && this.#pending.size >= pendingMax) this.#turnAway(oldest, 'too-many');
    const timer = setTimeout(() => this.#turnAway(socket, 'timeout'), this.msMax);
    this.#pending.set(socket, timer);
    socket.once('close', () => this.pass(socket));
  }

  /** It has proven itself, or gone. */
  pass(socket: Socket): void {
    clearTimeout(this.#pending.get(socket));
    this.#pending.delete(socket);
  }

  /** Turns all away. */
  close(): void {
    for (const socket of [...this.#pending.keys()]) {
      this.pass(socket);
      socket.destroy();
    }
  }

  #turnAway(socket: Socket, why: 'timeout' | 'too-many'): void {
    this.pass(socket);
    socket.destroy();
    this.#turnedAway(why);
  }
}
