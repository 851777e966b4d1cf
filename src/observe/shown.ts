import { milliseconds, percent } from './format.ts';

/** What stands for a value that a record does not have. */
export const unknown = '-';

/** Formats a time in ms for people; `-` for a time that is unknown. */
export function time(ms: number | undefined): string {
  return ms !== undefined && Number.isFinite(ms) ? milliseconds(ms) : unknown;
}

/** Formats a fraction from 0 to 1 as a percentage; `-` for a fraction that is unknown. */
export function share(value: number | undefined): string {
  return value !== undefined && Number.isFinite(value) ? percent(value) : unknown;
}

/** Formats a number with a fixed number of decimals; `-` for a number that is unknown. */
export function decimal(value: number | undefined, decimals: number): string {
  return value !== undefined && Number.isFinite(value) ? value.toFixed(decimals) : unknown;
}
