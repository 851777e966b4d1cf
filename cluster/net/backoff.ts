/**
 * Bounds of the delay before an operation is retried, in ms. `firstMs` is the longest delay before
 * the first retry, and `mostMs` is the longest delay before any retry.
 */
export interface Backoff {
  readonly firstMs: number;
  readonly mostMs: number;
}

/**
 * Returns the delay before retry number `attempt` (from 1), in ms. The upper bound of the delay is
 * `firstMs` for the first retry, doubles with every further retry, and never exceeds `mostMs`.
 * `random`, in [0, 1), selects a delay between half of the bound and the bound, so that processes
 * that lost the same peer do not all reconnect at once.
 */
export function backoffMs({ firstMs, mostMs }: Backoff, attempt: number, random: number): number {
  const whole = Math.min(mostMs, firstMs * 2 ** Math.min(attempt - 1, 30));
  return whole / 2 + (whole / 2) * random;
}
