import type { Quantiles } from './event.ts';

/**
 * Returns the median, the 90th percentile and the maximum, by nearest rank. All are 0 for an empty
 * list.
 */
export function quantiles(values: readonly number[]): Quantiles {
  const sorted = [...values].sort((a, b) => a - b);
  return { p50: rank(sorted, 0.5), p90: rank(sorted, 0.9), max: rank(sorted, 1) };
}

/**
 * Returns the value at the fraction `share` of the sorted list, by nearest rank. The fraction 0.5
 * gives the median. Returns 0 for an empty list.
 */
export function quantile(values: readonly number[], share: number): number {
  return rank(
    [...values].sort((a, b) => a - b),
    share,
  );
}

/** Returns the sum of a list, added in its order. */
export function sum(values: readonly number[]): number {
  return values.reduce((total, it) => total + it, 0);
}

function rank(sorted: readonly number[], share: number): number {
  return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? 0;
}
