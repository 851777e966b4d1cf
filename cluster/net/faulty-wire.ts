import type { LinkFaults } from './link-faults.ts';
import type { Wire } from './wire.ts';

/** Time, in ms, after which bytes for a link that is down are tried again. */
const heldMs = 5;

/** Bytes that wait in a {@link FaultyWire}. */
interface Waiting {
  readonly bytes: Buffer;
  /** Time, in ms, at which the bytes may go; undefined while the link is down. */
  readonly dueMs: number | undefined;
  /** True if the connection is ended at this point of the queue. `bytes` is then empty. */
  readonly resets: boolean;
}

/**
 * Stands between a writer and a real wire, and applies the faults of a plan to the bytes. While no
 * fault is active and no bytes wait, bytes pass through at once. Otherwise they are copied, because
 * they may be sent later.
 */
export class FaultyWire implements Wire {
  readonly #wire: Wire;
  readonly #faults: LinkFaults;
  readonly #from: number;
  readonly #to: number;
  readonly #now: () => number;
  #waiting: Waiting[] = [];
  /** Time, in ms, until which a slow link is occupied. */
  #freeMs = 0;
  #timer: NodeJS.Timeout | undefined;

  /** `from` and `to` are the Cloud TPUs at the ends. `now` returns the time in ms. */
  constructor(wire: Wire, faults: LinkFaults, from: number, to: number, now: () => number) {
    this.#wire = wire;
    this.#faults = faults;
    this.#from = from;
    this.#to = to;
    this.#now = now;
  }

  get waiting(): number {
    return this.#wire.waiting;
  }

  write(head: Uint8Array, payload?: Uint8Array): boolean {
    if (this.#waiting.length === 0 && this.#faults.isEmpty) return this.#wire.write(head, payload);
    this.#take(Buffer.concat(payload === undefined ? [head] : [head, payload]));
    this.#flush();
    return true;
  }

  end(...reason: Parameters<Wire['end']>): void {
    clearTimeout(this.#timer);
    this.#waiting = [];
    this.#wire.end(...reason);
  }

  /**
   * Puts the bytes of one frame into the queue, as changed by the active faults. If the last bytes
   * in the queue wait for a link that is down, the new bytes wait too.
   */
  #take(bytes: Buffer): void {
    const place = { from: this.#from, to: this.#to, fromSite: this.#from, toSite: this.#to };
    const last = this.#waiting.at(-1);
    const isBehindHeld = last !== undefined && last.dueMs === undefined;
    const passage = isBehindHeld ? undefined : this.#faults.pass({ ...place, bytes });
    if (passage === undefined || passage.isHeld) {
      this.#waiting.push({ bytes, dueMs: undefined, resets: false });
      return;
    }
    const { pieces, delayUs, sendingUs, resets } = passage;
    this.#freeMs = Math.max(this.#freeMs, this.#now()) + sendingUs / 1000;
    // Bytes never overtake others: they are due no earlier than the last bytes in the queue.
    const dueMs = Math.max(this.#freeMs + delayUs / 1000, last?.dueMs ?? 0);
    for (const piece of pieces) this.#waiting.push({ bytes: piece, dueMs, resets: false });
    if (resets) this.#waiting.push({ bytes: Buffer.alloc(0), dueMs, resets });
  }

  /** Sends the bytes that are due, and sets a timer for the rest. */
  #flush(): void {
    for (let next = this.#waiting[0]; next !== undefined; next = this.#waiting[0]) {
      const leftMs = next.dueMs === undefined ? heldMs : next.dueMs - this.#now();
      if (leftMs > 0) {
        this.#comeBack(leftMs);
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

  #comeBack(afterMs: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      // The link may work again, so all bytes that waited for it are taken once more, in order.
      const firstHeld = this.#waiting.findIndex(({ dueMs }) => dueMs === undefined);
      const held = firstHeld < 0 ? [] : this.#waiting.splice(firstHeld);
      for (const { bytes } of held) this.#take(bytes);
      this.#flush();
    }, afterMs);
    this.#timer.unref();
  }
}
