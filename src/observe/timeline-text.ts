import type { Incident, IncidentKind } from './incident.ts';
import type { Period } from './run-clock.ts';
import { type ShownTpus, shownTpus } from './run-report.ts';
import { time } from './shown.ts';
import { kindOfAttempt } from './step-bins.ts';
import { endOfAbsence, endOfRecovery, type Timeline } from './timeline.ts';

/** Most rows for Cloud TPUs on a terminal. */
const rowsMax = 64;
const labelWidth = 8;
/** Smallest number of columns for the time. On a narrower terminal the lines wrap. */
const columnsMin = 20;

/** Letters of incidents in a timeline of text. Incidents without a letter are only listed. */
const letters: Readonly<Partial<Record<IncidentKind, string>>> = {
  ...{ fault: 'F', lost: 'X', suspected: '?', quarantined: 'Q', 'rolled-back': 'B' },
  ...{ straggler: 'S', replaced: 'R', adopted: 'A', checkpoint: 'C', 'checkpoint-failed': '!' },
  ...{ master: 'M', failed: '#' },
};

/** Characters that fill a period of time, and the meanings of these characters. */
const lasting = {
  step: { character: '-', text: 'a step' },
  interrupted: { character: '/', text: 'interrupted, then ran again' },
  again: { character: '=', text: 'ran again' },
  evaluation: { character: 'e', text: 'evaluation' },
  recovery: { character: '~', text: 'recovery' },
  absence: { character: '.', text: 'without a worker' },
} as const;

/**
 * Draws a timeline as text. The first row is that of the slice; then each Cloud TPU has a row. Time
 * goes from left to right. The meaning of the characters stands below the rows. `width` is the
 * number of characters in a line.
 */
export function timelineText(timeline: Timeline, width: number): readonly string[] {
  const shown = shownTpus(timeline, rowsMax);
  const columns = new Columns(timeline.shown, Math.max(columnsMin, width - labelWidth - 2));
  const grid = new Grid(shown, columns);
  for (const recovery of timeline.recoveries) {
    const to = endOfRecovery(recovery, columns.endMs);
    grid.fill('all', { from: recovery.fromMs, to }, lasting.recovery.character);
  }
  for (const step of timeline.steps) {
    for (const [i, attempt] of step.attempts.entries()) {
      grid.fill('all', attempt, lasting[kindOfAttempt(step, i)].character);
    }
  }
  for (const { fromMs, toMs = columns.endMs } of timeline.repeats) {
    grid.fill('all', { from: fromMs, to: toMs }, lasting.again.character);
  }
  if (timeline.evaluation) grid.fill('all', timeline.evaluation, lasting.evaluation.character);
  for (const absence of timeline.absences) {
    const period = { from: absence.fromMs, to: endOfAbsence(absence, columns.endMs) };
    grid.fill(absence.tpu, period, lasting.absence.character);
  }
  // Letters of faults are put last. So the letter of a fault covers the letter of an incident that
  // the fault caused at the same time.
  const inOrder = [...timeline.incidents].sort(
    (a, b) => Number(b.kind !== 'fault') - Number(a.kind !== 'fault'),
  );
  for (const { tpu, ms, kind } of inOrder) grid.mark(tpu, ms, letters[kind]);
  const more = shown.leftOut > 0 ? [`${shown.leftOut} more Cloud TPUs are not shown`] : [];
  return [
    ...grid.lines(),
    axisOf(timeline, columns.count),
    ...more,
    '',
    ...keyOf(grid, timeline.incidents),
  ];
}

/** Returns the line with the first and the last time that the rows show. */
function axisOf({ shown }: Timeline, columns: number): string {
  const [from, to] = [time(shown[0]?.from), time(shown.at(-1)?.to)];
  return `${' '.repeat(labelWidth + 1)}${from}${to.padStart(Math.max(1, columns - from.length))}`;
}

/** Maps times of a run to columns of text. The time between two periods takes no columns. */
class Columns {
  readonly count: number;
  readonly endMs: number;
  readonly #periods: readonly Period[];
  readonly #totalMs: number;

  constructor(periods: readonly Period[], count: number) {
    this.#periods = periods;
    this.count = count;
    this.endMs = periods.at(-1)?.to ?? 0;
    this.#totalMs = periods.reduce((sum, { from, to }) => sum + to - from, 0);
  }

  /** Returns the column of a time in ms. */
  of(ms: number): number {
    const before = this.#periods.reduce((sum, { from, to }) => {
      return sum + Math.max(0, Math.min(ms, to) - from);
    }, 0);
    const share = this.#totalMs === 0 ? 0 : before / this.#totalMs;
    return Math.min(this.count - 1, Math.floor(share * this.count));
  }
}

/** Rows of characters: the first for the slice, the others for Cloud TPUs. */
class Grid {
  readonly #rows: string[][];
  readonly #shown: ShownTpus;
  readonly #columns: Columns;
  readonly #used = new Set<string>();

  constructor(shown: ShownTpus, columns: Columns) {
    this.#shown = shown;
    this.#columns = columns;
    const row = (): string[] => Array.from({ length: columns.count }, () => ' ');
    this.#rows = [row(), ...shown.tpus.map(row)];
  }

  /** Fills the columns of a period, in the row of a Cloud TPU or in all rows. */
  fill(tpu: number | 'all', { from, to }: Period, character: string): void {
    const [first, last] = [this.#columns.of(from), this.#columns.of(to)];
    for (const row of tpu === 'all' ? this.#rows : [this.#row(tpu)])
      row?.fill(character, first, last + 1);
    this.#used.add(character);
  }

  /** Puts a letter at a time, in the row of a Cloud TPU, or of the slice if `tpu` is null. */
  mark(tpu: number | null, ms: number, letter: string | undefined): void {
    const row = tpu === null ? this.#rows[0] : this.#row(tpu);
    if (row === undefined || letter === undefined) return;
    row[this.#columns.of(ms)] = letter;
  }

  /** True if {@link fill} has used the character. */
  has(character: string): boolean {
    return this.#used.has(character);
  }

  lines(): readonly string[] {
    const labels = ['slice', ...this.#shown.tpus.map((tpu) => `TPU ${tpu}`)];
    return this.#rows.map((row, i) => `${(labels[i] ?? '').padEnd(labelWidth)}|${row.join('')}|`);
  }

  #row(tpu: number): string[] | undefined {
    const index = this.#shown.tpus.indexOf(tpu);
    return index < 0 ? undefined : this.#rows[index + 1];
  }
}

/** Returns the meanings of the characters that a timeline has, as lines. */
function keyOf(grid: Grid, incidents: readonly Incident[]): readonly string[] {
  const spans = Object.values(lasting).filter(({ character }) => grid.has(character));
  const kinds = new Set(incidents.map(({ kind }) => kind));
  const marks = [...kinds].flatMap((kind) => {
    const letter = letters[kind];
    return letter === undefined ? [] : [`${letter} ${kind}`];
  });
  const all = [...spans.map(({ character, text }) => `${character} ${text}`), ...marks];
  return [all.join('   ')];
}
