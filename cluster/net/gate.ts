import type { Socket } from 'node:net';

/** Default time limit for the handshake of a connection, in ms. */
export const handshakeMsMax = 2000;
/** Largest number of connections that may be in their handshake at the same time. */
export const pendingMax = 64;

/**
 * Limits how many connections may be in their handshake at the same time, and how long each
 * handshake may take. If a new connection exceeds the number, the gate closes the connection that
 * has been in its handshake longest. An honest peer is hardly ever closed, because its handshake
 * takes only milliseconds.
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
   * Removes a connection from the gate, because the connection has completed its handshake or has
   * closed. The time limit of the connection ends.
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
