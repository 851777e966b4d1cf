/**
 * Bounds, in ms, of the delay before a failed operation is tried again. `firstMs` is the longest
 * delay before the first retry, and `mostMs` is the longest delay before any retry.
 */
export interface Backoff {
  readonly firstMs: number;
  readonly mostMs: number;
}

/**
 * Returns the delay, in ms, before retry number `attempt`, counted from 1. The longest possible
 * delay is `firstMs` before the first retry, then doubles with every retry until it reaches
 * `mostMs`. The delay lies between half of the longest delay and the longest delay. `random`, a
 * number in [0, 1), decides where. So processes that lost the same peer reconnect at different
 * times.
 */
export function backoffMs({ firstMs, mostMs }: Backoff, attempt: number, random: number): number {
  const whole = Math.min(mostMs, firstMs * 2 ** Math.min(attempt - 1, 30));
  return whole / 2 + (whole / 2) * random;
}
