/** Formats a duration for people: `0.25 ms`, `12.5 ms`, `340 ms`, `12.3 s`. */
export function milliseconds(ms: number): string {
  if (ms >= 10_000) return `${(ms / 1000).toFixed(1)} s`;
  if (ms >= 100) return `${ms.toFixed(0)} ms`;
  return ms >= 1 ? `${ms.toFixed(1)} ms` : `${ms.toFixed(2)} ms`;
}

/** Formats a number of bytes in binary units: `512 B`, `1.50 KiB`, `32.0 MiB`. */
export function bytes(count: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = count;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 ? value : value.toFixed(value >= 100 ? 0 : value >= 10 ? 1 : 2)} ${units[unit]}`;
}

/** Formats a fraction from 0 to 1 as a percentage: 0.9731 becomes `97.31 %`. */
export function percent(share: number): string {
  return `${(100 * share).toFixed(share >= 0.9995 ? 1 : 2)} %`;
}

/** Formats a whole number with commas between thousands: `12,345`. */
export function count(value: number): string {
  return Math.round(value)
    .toString()
    .replace(/\B(?=(\d{3})+$)/g, ',');
}

/** Returns a number with its noun, which is in the plural unless the number is 1: `3 faults`. */
export function counted(value: number, noun: string): string {
  return `${count(value)} ${noun}${value === 1 ? '' : 's'}`;
}

/**
 * Formats rows as a table. The first column is aligned left; all others hold numbers and are
 * aligned right.
 */
export function table(rows: readonly (readonly string[])[]): string[] {
  return align(rows, (cell, width, column) =>
    column === 0 ? cell.padEnd(width) : cell.padStart(width),
  );
}

/** Formats rows as a table whose columns are all aligned left. */
export function columns(rows: readonly (readonly string[])[]): string[] {
  return align(rows, (cell, width) => cell.padEnd(width));
}

function align(
  rows: readonly (readonly string[])[],
  pad: (cell: string, width: number, column: number) => string,
): string[] {
  const widths: number[] = [];
  for (const row of rows) {
    for (const [i, cell] of row.entries()) widths[i] = Math.max(widths[i] ?? 0, cell.length);
  }
  return rows.map((row) =>
    row
      .map((cell, i) => pad(cell, widths[i] ?? 0, i))
      .join('   ')
      .trimEnd(),
  );
}
