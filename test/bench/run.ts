/**
 * Runs all benchmarks and prints each figure beside its limit (best possible or promised figure).
 *
 *   npm run bench -- [--only matmul|vector|all-reduce|processes|checks|simulation|goodput|training] [--json]
 *     [--tfjs FOLDER] [--python PROGRAM]
 *
 * `--tfjs` also times the matmuls of TensorFlow.js, which must be installed in FOLDER. If PROGRAM
 * (`python3` by default) has torch, gloo's all-reduce is timed alternately with the emulator's.
 */
import { parseArgs } from 'node:util';
import { enableRelaxedSimd } from '../../src/chip/engine.ts';
import { table } from '../../src/observe/format.ts';
import { run as allReduce } from './allreduce.bench.ts';
import { run as processes } from './allreduce-processes.bench.ts';
import { run as checks } from './checks.bench.ts';
import { run as goodput } from './goodput.bench.ts';
import { run as matmul } from './matmul.bench.ts';
import type { BenchRow } from './row.ts';
import { run as simulation } from './simulation.bench.ts';
import { run as tfjs } from './tfjs.bench.ts';
import { run as training } from './training.bench.ts';
import { run as vector } from './vector.bench.ts';

const { values } = parseArgs({
  options: {
    only: { type: 'string' },
    json: { type: 'boolean', default: false },
    tfjs: { type: 'string' },
    python: { type: 'string', default: 'python3' },
  },
});

enableRelaxedSimd();
const rows: BenchRow[] = [];
const benches: Readonly<Record<string, () => Promise<BenchRow[]>>> = {
  matmul: async () => {
    const ours = await matmul({});
    const rates = new Map(ours.map((row) => [row.name, row.value]));
    return values.tfjs === undefined ? ours : [...ours, ...(await tfjs(values.tfjs, rates))];
  },
  vector: () => vector(),
  'all-reduce': () => allReduce(),
  processes: () => processes(values.python),
  checks: () => checks(),
  simulation: () => simulation(),
  goodput: () => goodput(),
  training: () => training(),
};
for (const [name, bench] of Object.entries(benches)) {
  if (values.only !== undefined && values.only !== name) continue;
  const measured = await bench();
  rows.push(...measured);
  if (!values.json) process.stdout.write(`${table(measured.map(cells)).join('\n')}\n\n`);
}
if (values.json) process.stdout.write(`${JSON.stringify(rows, undefined, 2)}\n`);

function cells({ name, value, unit, limit, limitName, higherIsBetter }: BenchRow): string[] {
  const share = higherIsBetter ? value / limit : limit / value;
  return [
    name,
    `${rounded(value)} ${unit}`,
    `${(100 * share).toFixed(0)} %`,
    `of ${rounded(limit)} ${unit}`,
    limitName,
  ];
}

function rounded(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toFixed(1);
}
