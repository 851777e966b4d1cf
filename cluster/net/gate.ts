import type { Socket } from 'node:net';

/** Default time limit for the handshake of a connection, in ms. */
export const handshakeMsMax = 2000;
/** Largest number of connections that may be in their handshake at the same time. */
export const pendingMax = 64;

/**
 * Limits how many connections may be in their handshake at the same time, and how long each
 * handshake may take. If a new connection exceeds the limit, the gate closes the connection whose
 * handshake began first. This hardly ever hits an honest peer, which completes its handshake in
 * milliseconds.
 */
export class Gate {
  readonly #pending: Map<Socket, NodeJS.Timeout> = new Map();
  readonly #turnedAway: (why: 'timeout' | 'too-many') => void;
  /** Time limit for the handshake of each connection, in ms. */
  readonly msMax: number;

  constructor(turnedAway: (why: 'timeout' | 'too-many') => void, msMax: number = handshakeMsMax) {
    this.#turnedAway = turnedAway;
    this.msMax = msMax;
  }

  get pending(): number {
    return this.#pending.size;
  }

  /** Adds a new connection to the gate, and starts the time limit of the connection. */
  enter(socket: Socket): void {
    const oldest = this.#pending.keys().next().value;
    if (oldest && this.#pending.size >= pendingMax) this.#turnAway(oldest, 'too-many');
    const timer = setTimeout(() => this.#turnAway(socket, 'timeout'), this.msMax);
    this.#pending.set(socket, timer);
    socket.once('close', () => this.pass(socket));
  }

  /**
   * Called when a connection has completed its handshake or has closed. Ends the time limit of the
   * connection, which no longer counts.
   */
  pass(socket: Socket): void {
    clearTimeout(this.#pending.get(socket));
    this.#pending.delete(socket);
  }

  /** Closes all connections that have not completed their handshake. */
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
