import { limits } from '../limits.ts';
import type { Refusal } from '../net/frame.ts';

type Log = (msg: string, fields: Readonly<Record<string, unknown>>) => void;

/**
 * Logs refused connections. Strangers can connect any number of times, so the number of log lines
 * is limited; otherwise the log could fill the disk. Only the first `limits.refusalsLogged` refused
 * connections of a period have a log line each. The others are counted, and one log line at the end
 * of the period tells their number.
 */
export class RefusalLog {
  readonly #log: Log;
  #told = 0;
  /**
   * How many refused connections of this period have no log line of their own. Key: code of the
   * refusal.
   */
  readonly #more: Map<string, number> = new Map();

  constructor(log: Log) {
    this.#log = log;
  }

  /** Logs or counts a refused connection. */
  add(address: string, { code, text }: Refusal): void {
    if (this.#told === 0) setTimeout(() => this.#tellMore(), limits.refusalPeriodMs).unref();
    this.#told++;
    if (this.#told <= limits.refusalsLogged)
      this.#log('turned-away', { address, code, cause: text });
    else this.#more.set(code, (this.#more.get(code) ?? 0) + 1);
  }

  /** Ends a period: logs how many refused connections had no log line of their own. */
  #tellMore(): void {
    this.#told = 0;
    if (this.#more.size === 0) return;
    const count = [...this.#more.values()].reduce((sum, it) => sum + it, 0);
    this.#log('turned-away-more', { count, codes: Object.fromEntries(this.#more) });
    this.#more.clear();
  }
}
