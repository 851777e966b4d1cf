import { type Departure, FaultyPath } from './faulty-path.ts';
import type { LinkFaults } from './link-faults.ts';
import type { Wire } from './wire.ts';

/** Bytes that wait in a {@link FaultyWire}. */
interface Waiting {
  readonly bytes: Buffer;
  /** Time, in ms, at which the bytes are sent. */
  readonly dueMs: number;
  /**
   * True if this entry of the queue stands for the end of the connection. `bytes` is then empty.
   */
  readonly resets: boolean;
}

/**
 * A wire that applies the faults of a plan, and passes the bytes on to a real wire. While no fault
 * is active and no bytes wait, bytes are passed on at once. Otherwise the bytes are copied, because
 * they may be sent later.
 */
export class FaultyWire implements Wire {
  readonly #wire: Wire;
  readonly #path: FaultyPath;
  readonly #now: () => number;
  #waiting: Waiting[] = [];
  #timer: NodeJS.Timeout | undefined;

  /** `from` and `to` are the Cloud TPUs at the ends. `now` returns the time in ms. */
  constructor(wire: Wire, faults: LinkFaults, from: number, to: number, now: () => number) {
    this.#wire = wire;
    this.#now = now;
    const ends = { from, to, fromSite: from, toSite: to };
    this.#path = new FaultyPath(faults, ends, {
      nowUs: () => 1000 * now(),
      later: (us, act) => void setTimeout(act, us / 1000).unref(),
      depart: (departure) => this.#depart(departure),
    });
  }

  get waiting(): number {
    return this.#wire.waiting;
  }

  write(head: Uint8Array, payload?: Uint8Array): boolean {
    if (this.#waiting.length === 0 && this.#path.isClear) return this.#wire.write(head, payload);
    this.#path.take(Buffer.concat(payload === undefined ? [head] : [head, payload]));
    return true;
  }

  end(...reason: Parameters<Wire['end']>): void {
    clearTimeout(this.#timer);
    this.#waiting = [];
    this.#path.drop();
    this.#wire.end(...reason);
  }

  /** Puts bytes at the end of the queue. They are sent no earlier than the bytes before them. */
  #depart({ pieces, us, resets }: Departure): void {
    const dueMs = Math.max(us / 1000, this.#waiting.at(-1)?.dueMs ?? 0);
    for (const bytes of pieces) this.#waiting.push({ bytes, dueMs, resets: false });
    if (resets) this.#waiting.push({ bytes: Buffer.alloc(0), dueMs, resets });
    this.#flush();
  }

  /** Sends the bytes that are due, and sets a timer for the rest. */
  #flush(): void {
    clearTimeout(this.#timer);
    for (let next = this.#waiting[0]; next !== undefined; next = this.#waiting[0]) {
      const leftMs = next.dueMs - this.#now();
      if (leftMs > 0) {
        this.#timer = setTimeout(() => this.#flush(), leftMs).unref();
        return;
      }
      if (next.resets) {
        this.end();
        return;
      }
      this.#waiting.shift();
      this.#wire.write(next.bytes);
    }
  }
}
