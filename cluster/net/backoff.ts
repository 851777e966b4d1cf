/**
 * Bounds of the delay before an operation is retried, in ms: `firstMs` is the delay before the
 * first retry, and `mostMs` is the longest delay before any later retry.
 */
export interface Backoff {
  readonly firstMs: number;
  readonly mostMs: number;
}

/**
 * Returns the delay before retry number `attempt` (from 1), in ms. The longest delay for a retry is
 * `firstMs` for the first, doubles with every retry, and is at most `mostMs`. `random`, in [0, 1),
 * selects a delay between half of the longest delay and the longest delay, so that processes that
 * lost the same peer do not all reconnect at once.
 */
export function backoffMs({ firstMs, mostMs }: Backoff, attempt: number, random: number): number {
  const whole = Math.min(mostMs, firstMs * 2 ** Math.min(attempt - 1, 30));
  return whole / 2 + (whole / 2) * random;
}
