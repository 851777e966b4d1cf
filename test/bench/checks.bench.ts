import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { crossings, frameSizes, type Hosting } from '../../cluster/net/route.ts';
import { vectorUnit } from '../../src/chip/vector-unit.ts';
import { trainOptions } from '../../src/cli/options.ts';
import { openDataset } from '../../src/data/open.ts';
import type { Report } from '../../src/experiment/event.ts';
import { buildPrograms } from '../../src/experiment/programs.ts';
import { quantiles } from '../../src/experiment/statistics.ts';
import { crcScratchBytes, FrameCrc } from '../../src/fabric/kernels/crc.ts';
import { linkBytesFormula } from '../../src/fabric/link-bytes.ts';
import type { Direction } from '../../src/fabric/torus.ts';
import { axisLength, axisOf, podTorus, type Torus } from '../../src/fabric/torus.ts';
import type { Executable } from '../../src/isa/executable.ts';
import { at } from '../../src/numerics/assert.ts';
import type { BenchRow } from './row.ts';

/** A training run to time, on eight Cloud TPUs. */
interface Case {
  readonly model: 'mlp' | 'cnn';
  readonly globalBatch: number;
  readonly steps: number;
}

const cases: readonly Case[] = [
  { model: 'mlp', globalBatch: 1024, steps: 100 },
  { model: 'cnn', globalBatch: 256, steps: 30 },
];

const topology = { columns: 4, rows: 2 };
const processors = 2;
/** Largest share of the processor time of a step, in percent, that checks may take [issue 3]. */
const shareMax = 3;

/**
 * Measures how much of the processor time of a step goes into the detection of errors, in percent.
 * The detection consists of two parts: the digests of the weights, and the CRCs of the bytes
 * between processes, which senders and receivers compute. The processor time is that of all eight
 * processes together.
 */
export async function run(): Promise<BenchRow[]> {
  const rows: BenchRow[] = [];
  for (const it of cases) rows.push(await measure(it));
  return rows;
}

async function measure(it: Case): Promise<BenchRow> {
  const { model, globalBatch, steps } = it;
  const { config } = trainOptions({ model, globalBatch, data: `digits:${8 * globalBatch}`, steps });
  const { train, weights } = buildPrograms(config, openDataset(config.data, config.seed), steps);
  const stepMs = processors * (await timeStep(it));
  const digestMs = topology.columns * topology.rows * timeDigest(train, weights);
  const crcMs = timeCrcs(podTorus(topology), train);
  return {
    name: `${model}: digests ${digestMs.toFixed(2)} ms, CRCs ${crcMs.toFixed(2)} ms of ${stepMs.toFixed(0)}`,
    value: (100 * (digestMs + crcMs)) / stepMs,
    unit: '%',
    limit: shareMax,
    limitName: 'promised at most',
    higherIsBetter: false,
  };
}

/**
 * Returns the median time, in ms, of a step of eight processes, from the master's order to the
 * commit.
 */
async function timeStep({ model, globalBatch, steps }: Case): Promise<number> {
  const dir = mkdtempSync(join(tmpdir(), 'pod-bench-'));
  const report = join(dir, 'report.json');
  const cli = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));
  const flags = { tpus: 8, model, 'global-batch': globalBatch, steps, evaluate: 1, dir, report };
  const args = Object.entries(flags).flatMap(([flag, value]) => [`--${flag}`, `${value}`]);
  try {
    await promisify(execFile)(process.execPath, [cli, 'up', '--wait', ...args]);
    const { stepMs } = JSON.parse(readFileSync(report, 'utf8')) as Report;
    return stepMs.p50;
  } finally {
    rmSync(dir, { recursive: true });
  }
}

/** Returns the time, in ms, in which one Cloud TPU computes the digest of its weights. */
function timeDigest(executable: Executable, weights: number): number {
  const bytes = executable.parameters
    .slice(0, weights)
    .reduce((sum, id) => sum + at(executable.buffers, id).bytes, 0);
  const memory = new WebAssembly.Memory({
    initial: 1 + Math.ceil(bytes / 65536),
    maximum: 65536,
    shared: true,
  });
  const { digest } = vectorUnit(memory);
  return time(() => digest(1024, bytes / 4, 0n));
}

/** Returns the processor time, in ms, of all CRCs of a step in all processes. */
function timeCrcs(torus: Torus, executable: Executable): number {
  const elements = executable.buckets.map((bucket) => bucket.elements);
  const { frameBytes } = frameSizes(torus, Math.max(...elements));
  const memory = new WebAssembly.Memory({ initial: 16, maximum: 16, shared: true });
  const crc = new FrameCrc(memory, 1024);
  const frameMs = time(() => crc.of(1024 + crcScratchBytes, frameBytes));
  return (frameMs * checkedBytes(torus, elements)) / frameBytes;
}

/**
 * Returns the number of bytes in a step for which a CRC is computed; a byte with two CRCs counts
 * twice. The receiver computes a CRC of every byte from another process. The sender computes a CRC
 * of every byte that it sends, except for chunks that it only forwards. Such a chunk keeps the CRC
 * with which it arrived. In a ring of n chips, n − 2 of the 2 (n − 1) chunks that a chip sends are
 * only forwarded.
 */
function checkedBytes(torus: Torus, elements: readonly number[]): number {
  const processOf = Array.from({ length: torus.workers }, (_, worker) => worker);
  let bytes = 0;
  for (const self of processOf) {
    const hosting: Hosting = { torus, processOf, self };
    for (const link of new Set(crossings(hosting).out.map((it) => it.link))) {
      const direction = (link & 3) as Direction;
      const ring = axisLength(torus, axisOf(direction));
      const times = 1 + ring / (2 * (ring - 1));
      for (const count of elements) {
        bytes += times * linkBytesFormula(torus, count, link >> 2, direction);
      }
    }
  }
  return bytes;
}

/** Returns the median time of `work`, in ms. */
function time(work: () => unknown): number {
  const ms = Array.from({ length: 400 }, () => {
    const since = performance.now();
    work();
    return performance.now() - since;
  });
  return quantiles(ms).p50;
}
