/**
 * Bounds of the delay before a retry, in ms: `firstMs` for the first retry, never above `mostMs`.
 */
export interface Backoff {
  readonly firstMs: number;
  readonly mostMs: number;
}

/**
 * Returns the delay before retry number `attempt` (from 1), in ms. The delay doubles with every
 * retry, up to `mostMs`. `random`, in [0, 1), scales the delay to between half and all of that
 * value, so that processes that lost the same peer do not all reconnect at once.
 */
export function backoffMs({ firstMs, mostMs }: Backoff, attempt: number, random: number): number {
  const whole = Math.min(mostMs, firstMs * 2 ** Math.min(attempt - 1, 30));
  return whole / 2 + (whole / 2) * random;
}
