import type { Refusal } from '../net/frame.ts';

type Log = (msg: string, fields: Readonly<Record<string, unknown>>) => void;

/** Connections that are turned away are logged one by one, up to so many in so many ms. */
export const toldMax = 20;
export const periodMs = 10_000;

/**
 * Tells of those that are turned away. Anybody may knock, as often as they like, and none of them
 * must be able to fill a disk: of too many it is told how many there were.
 */
export class TurnedAway {
  readonly #log: Log;
  #told = 0;
  /** By why, those that were not told of one by one. */
  readonly #more: Map<string, number> = new Map();

  constructor(log: Log) {
    this.#log = log;
  }

  add(address: string, { code, text }: Refusal): void {
    if (this.#told === 0) setTimeout(() => this.#tellMore(), periodMs).unref();
    this.#told++;
    if (this.#told <= toldMax) this.#log('turned-away', { address, code, cause: text });
    else this.#more.set(code, (this.#more.get(code) ?? 0) + 1);
  }

  /** A period is over. */
  #tellMore(): void {
    this.#told = 0;
    if (this.#more.size === 0) return;
    const count = [...this.#more.values()].reduce((sum, it) => sum + it, 0);
    this.#log('turned-away-more', { count, codes: Object.fromEntries(this.#more) });
    this.#more.clear();
  }
}
