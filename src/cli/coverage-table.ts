import type { CoverageReport, CoverageRow } from '../fault/coverage.ts';
import type { AnyPhase } from '../fault/plan.ts';
import { allPhases } from '../fault/random-plan.ts';
import { table } from '../observe/format.ts';

/** Short names of the phases, so that the table fits on a screen. */
const headings: Readonly<Record<AnyPhase, string>> = {
  ...{ infeed: 'infeed', compute: 'compute', 'reduce-scatter': 'red-sc', 'all-reduce': 'all-red' },
  ...{ 'all-gather': 'all-ga', update: 'update', outfeed: 'outfeed', commit: 'commit' },
  ...{ checkpoint: 'checkpt', evaluate: 'eval', joining: 'joining', loading: 'loading' },
  restoring: 'restore',
};

/**
 * Returns the lines of the table of coverage: how often each kind of fault was injected in each
 * phase. If a kind cannot be injected in a phase, its cell has a letter instead. Below the table
 * stand the reason for each letter, and the kinds that cannot be injected in any phase.
 */
export function coverageLines({ matrix, paths, findings }: CoverageReport): readonly string[] {
  const rows = Object.entries(matrix) as [CoverageRow, CoverageReport['matrix'][string]][];
  const shown = rows.filter(([, cells]) => allPhases.some((it) => cells[it].reason === undefined));
  const hidden = rows.filter((row) => !shown.includes(row));
  const letters = new Letters();
  const body = shown.map(([row, cells]) => [
    row,
    ...allPhases.map((phase) => {
      const { count, reason } = cells[phase];
      return count === 0 && reason !== undefined ? letters.of(reason) : String(count);
    }),
  ]);
  return [
    ...table([['injected in phase', ...allPhases.map((phase) => headings[phase])], ...body]),
    '',
    ...letters.lines(),
    ...hiddenLines(hidden),
    '',
    ...table(Object.entries(paths).map(([path, count]) => [path, String(count)])),
    '',
    ...findings.map((finding) => `FINDING ${finding}`),
  ];
}

/** One letter for each reason why a fault cannot be injected: a, b, … in order of first use. */
class Letters {
  readonly #letters = new Map<string, string>();

  of(reason: string): string {
    const known = this.#letters.get(reason) ?? String.fromCharCode(97 + this.#letters.size);
    this.#letters.set(reason, known);
    return known;
  }

  lines(): readonly string[] {
    return [...this.#letters].map(([reason, letter]) => `${letter}: ${reason}`);
  }
}

/**
 * Returns one line for each reason why some kinds of faults cannot be injected in any phase. The
 * line names these kinds and the reason.
 */
function hiddenLines(
  rows: readonly (readonly [CoverageRow, CoverageReport['matrix'][string]])[],
): readonly string[] {
  const kinds = new Map<string, CoverageRow[]>();
  for (const [row, { compute }] of rows) {
    const reason = compute.reason ?? '';
    kinds.set(reason, [...(kinds.get(reason) ?? []), row]);
  }
  return [...kinds].map(([reason, names]) => `not injected: ${names.join(', ')}: ${reason}`);
}
