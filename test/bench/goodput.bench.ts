import { quantile } from '../../src/experiment/statistics.ts';
import { kill } from '../../src/testing/faults.ts';
import { pod } from '../../src/testing/pod.ts';
import type { BenchRow } from './row.ts';

/** Time between two kills, and how many kills there are [issue 15]. */
const killEveryMs = 15_000;
const kills = 4;
/** Share of wall time that should go into committed steps [issue 15, an aim]. */
const aim = 0.9;

const settings = { tpus: 8, model: 'mlp', evaluate: 16, seed: 1, faultFree: false } as const;

/**
 * Measures the goodput of a pod of 8 Cloud TPUs in threads, when about every 15 s one of them is
 * killed. The goodput is the share of wall time that goes into committed steps, at the median time of
 * a step. The kills are
 * set to steps, because positions in a plan are logical. A short run before gives the time of a
 * step.
 */
export async function run(): Promise<BenchRow[]> {
  const stepMs = await medianStepMs();
  const between = Math.max(1, Math.round(killEveryMs / stepMs));
  const faults = Array.from({ length: kills }, (_, i) =>
    kill((3 * i + 1) % 8).at({ step: (i + 1) * between, phase: 'reduce-scatter' }),
  );
  const steps = (kills + 1) * between;
  const done = await pod({ ...settings, steps })
    .inject(...faults)
    .train();
  const seconds = (done.endMs - done.beginMs) / 1000;
  return [
    {
      name: `goodput of 8 Cloud TPUs in threads, ${kills} kills in ${seconds.toFixed(0)} s`,
      ...{ value: 100 * done.goodput, unit: '%', limit: 100 * aim, limitName: 'aim' },
      higherIsBetter: true,
    },
  ];
}

async function medianStepMs(): Promise<number> {
  const { steps } = await pod({ ...settings, steps: 200 }).train();
  return quantile(
    steps.map(({ wallMs }) => wallMs),
    0.5,
  );
}
