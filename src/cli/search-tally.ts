import { quantile } from '../experiment/statistics.ts';
import type { Grid } from '../fabric/torus.ts';
import { kindNameOf } from '../fault/draw.ts';
import { type FaultPlan, hitBy } from '../fault/plan.ts';
import { type Observation, outcomesOf } from '../fault/verdict.ts';
import { count, milliseconds, table } from '../observe/format.ts';

/** What happened to the faults of one kind, in runs that have only one fault. Times are in ms. */
export interface KindTally {
  readonly kind: string;
  readonly injected: number;
  /**
   * `noticed` is the number of faults that were reported. `right` is the number of faults whose
   * first report named a Cloud TPU that the fault hit. It is null for faults that hit no Cloud TPU,
   * but the master or its disk.
   */
  readonly noticed: number;
  readonly right: number | null;
  readonly detectionMs: Spread;
  readonly recoveryMs: Spread;
}

/** Median and 99th percentile; 0 if there are no values. */
export interface Spread {
  readonly p50: number;
  readonly p99: number;
}

interface Kind {
  readonly hitsTpus: boolean;
  injected: number;
  right: number;
  readonly detectionMs: number[];
  readonly recoveryMs: number[];
}

/**
 * Counts how faults were noticed and mended, over those runs of a search that have exactly one
 * fault.
 */
export class Tally {
  readonly #kinds = new Map<string, Kind>();

  /** Adds a run with exactly one fault that was injected. Ignores every other run. */
  add(plan: FaultPlan, grid: Grid, seen: Observation): void {
    const [outcome] = outcomesOf(plan, grid, seen);
    if (plan.faults.length !== 1 || outcome?.injectedMs === undefined) return;
    const { fault, blamed, detectionMs, recoveryMs } = outcome;
    const hit = hitBy(fault, grid);
    const kind = this.#kindOf(kindNameOf(fault), hit.length > 0);
    kind.injected++;
    if (detectionMs === undefined) return;
    kind.detectionMs.push(detectionMs);
    if (recoveryMs !== undefined) kind.recoveryMs.push(recoveryMs);
    if (blamed !== undefined && blamed !== null && hit.includes(blamed)) kind.right++;
  }

  /** Returns the kinds in the order in which they were first added. */
  get kinds(): readonly KindTally[] {
    return [...this.#kinds].map(
      ([kind, { hitsTpus, injected, right, detectionMs, recoveryMs }]) => ({
        ...{ kind, injected, noticed: detectionMs.length, right: hitsTpus ? right : null },
        ...{ detectionMs: spread(detectionMs), recoveryMs: spread(recoveryMs) },
      }),
    );
  }

  #kindOf(name: string, hitsTpus: boolean): Kind {
    const known = this.#kinds.get(name);
    if (known !== undefined) return known;
    const kind: Kind = { hitsTpus, injected: 0, right: 0, detectionMs: [], recoveryMs: [] };
    this.#kinds.set(name, kind);
    return kind;
  }
}

/**
 * Returns the lines of a table with one row for each kind. A last line says how many of the first
 * reports named the right Cloud TPU. The first line says how many of the plans have only one fault,
 * because no others are counted. `plans` is the number of all plans.
 */
export function tallyLines(kinds: readonly KindTally[], plans: number): readonly string[] {
  const head = ['fault', 'injected', 'noticed', 'right', 'noticed after, p50 and p99', 'recovered'];
  const rows = kinds.map(({ kind, injected, noticed, right, detectionMs, recoveryMs }) => [
    ...[kind, `${injected}`, `${noticed}`, right === null ? '-' : `${right}`],
    ...[shown(detectionMs, noticed), shown(recoveryMs, noticed)],
  ]);
  const sum = (of: (it: KindTally) => number): number => kinds.reduce((all, it) => all + of(it), 0);
  const right = sum((it) => it.right ?? 0);
  const noticed = sum((it) => (it.right === null ? 0 : it.noticed));
  const share = noticed === 0 ? '' : `, ${((100 * right) / noticed).toFixed(1)} %`;
  const counted = sum((it) => it.injected);
  return [
    `times of the ${count(counted)} of ${count(plans)} plans with one fault that was injected; --faults 1 draws no others`,
    ...table([head, ...rows]),
    `the first report names the right one: ${right} of ${noticed}${share}`,
  ];
}

function shown({ p50, p99 }: Spread, count: number): string {
  return count === 0 ? '-' : `${milliseconds(p50)}, ${milliseconds(p99)}`;
}

function spread(values: readonly number[]): Spread {
  return { p50: quantile(values, 0.5), p99: quantile(values, 0.99) };
}
