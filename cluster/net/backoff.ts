/** How long to wait before trying again. */
export interface Backoff {
  readonly firstMs: number;
  readonly mostMs: number;
}

/**
 * Milliseconds before attempt number `attempt` (from 1): twice as many each time, up to a bound, and
 * of that a random part, at least half, so that those who lost the same peer do not all return at
 * once. `random` is in [0, 1).
 */
export function backoffMs({ firstMs, mostMs }: Backoff, attempt: number, random: number): number {
  const whole = Math.min(mostMs, firstMs * 2 ** Math.min(attempt - 1, 30));
  return whole / 2 + (whole / 2) * random;
}
