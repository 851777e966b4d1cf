import { simulateRun } from '../../cluster/simulated/run.ts';
import type { BenchRow } from './row.ts';

/** Grids to simulate, as columns and rows, with a number of steps that takes a few seconds. */
const cases = [
  { columns: 2, rows: 2, steps: 2000 },
  { columns: 8, rows: 8, steps: 100 },
  { columns: 16, rows: 16, steps: 100 },
] as const;

/** Promised figures [issue 15]. */
const promised = {
  deliveredPerSecond: 50_000,
  stepsPerSecond: 1000,
  secondsOfLargest: 60,
} as const;

/**
 * Measures the speed of the simulation on one processor. The figure of every grid is the number of
 * messages and frames delivered per second. The smallest grid also has a figure for steps per
 * second. The largest grid also has a figure for the time of its 100 steps.
 */
export async function run(): Promise<BenchRow[]> {
  await simulateRun({ topology: { columns: 2, rows: 2 }, steps: 500 });
  const rows: BenchRow[] = [];
  for (const { columns, rows: height, steps } of cases) {
    const sinceMs = performance.now();
    const { traffic } = await simulateRun({ topology: { columns, rows: height }, steps });
    const seconds = (performance.now() - sinceMs) / 1000;
    const name = `simulation of ${columns}×${height}, ${steps} steps`;
    const perSecond = (count: number, what: string, limit: number): BenchRow => ({
      ...{ name: `${name}: ${what}`, value: count / seconds, unit: '/s' },
      ...{ limit, limitName: 'promised at least', higherIsBetter: true },
    });
    const delivered = traffic.messages + traffic.frames;
    rows.push(perSecond(delivered, 'delivered', promised.deliveredPerSecond));
    if (columns === 2) rows.push(perSecond(steps, 'steps', promised.stepsPerSecond));
    if (columns !== 16) continue;
    rows.push({
      ...{ name, value: seconds, unit: 's', limit: promised.secondsOfLargest },
      ...{ limitName: 'promised at most', higherIsBetter: false },
    });
  }
  return rows;
}
