import { crossings, frameSizes, type Hosting } from '../../cluster/net/route.ts';
import { openThreadPod } from '../../cluster/threads/pool.ts';
import { vectorUnit } from '../../src/chip/vector-unit.ts';
import { trainOptions } from '../../src/cli/options.ts';
import { openDataset } from '../../src/data/open.ts';
import { buildPrograms } from '../../src/experiment/programs.ts';
import { quantiles } from '../../src/experiment/statistics.ts';
import { crcScratchBytes, frameCrc } from '../../src/fabric/kernels/crc.ts';
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
  readonly warmUpSteps: number;
  readonly steps: number;
}

const cases: readonly Case[] = [
  { model: 'mlp', globalBatch: 1024, warmUpSteps: 16, steps: 60 },
  { model: 'cnn', globalBatch: 256, warmUpSteps: 6, steps: 16 },
];

const topology = { columns: 4, rows: 2 };
const processors = 2;
/** What issue 3 allows, in percent of a step. */
const shareMax = 3;

/**
 * What it costs to notice that something is wrong: the digests of the weights, and the CRCs of all
 * that goes between eight processes, at either end. In percent of the time of the processors in a
 * step without sockets; so it is less in truth.
 */
export async function run(): Promise<BenchRow[]> {
  const rows: BenchRow[] = [];
  for (const it of cases) rows.push(await measure(it));
  return rows;
}

async function measure(it: Case): Promise<BenchRow> {
  const { config } = trainOptions({
    model: it.model,
    globalBatch: it.globalBatch,
    data: `digits:${8 * it.globalBatch}`,
    steps: it.warmUpSteps + it.steps,
  });
  const dataset = openDataset(config.data, config.seed);
  const programs = buildPrograms(config, dataset, it.warmUpSteps + it.steps);
  const stepMs = processors * (await timeStep(it, programs, config.data, config.seed));
  const digestMs = topology.columns * topology.rows * timeDigest(programs.train, programs.weights);
  const crcMs = timeCrcs(podTorus(topology), programs.train);
  return {
    name: `${it.model}: digests ${digestMs.toFixed(2)} ms, CRCs ${crcMs.toFixed(2)} ms of ${stepMs.toFixed(0)}`,
    value: (100 * (digestMs + crcMs)) / stepMs,
    unit: '%',
    limit: shareMax,
    limitName: 'promised at most',
    higherIsBetter: false,
  };
}

/** Milliseconds of a step, from order to commit; median. */
async function timeStep(
  { globalBatch, warmUpSteps, steps }: Case,
  { train, weights, initialValues }: ReturnType<typeof buildPrograms>,
  dataset: string,
  seed: number,
): Promise<number> {
  const feed = {
    ...({ dataset, datasetSeed: seed, split: 'train', globalBatch } as const),
    ...({ order: 'training', orderSeed: seed, firstStep: 0 } as const),
  };
  const pod = await openThreadPod({
    topology,
    mxu: 'fast',
    programs: [{ executable: train, digested: weights, feed }],
  });
  try {
    await pod.writeParameters(0, initialValues);
    const wallMs: number[] = [];
    for (let step = 0; step < warmUpSteps + steps; step++) {
      const commit = await pod.step(0);
      if (step >= warmUpSteps) wallMs.push(commit.wallMs);
    }
    return quantiles(wallMs).p50;
  } finally {
    await pod.close();
  }
}

/** Milliseconds in which one Cloud TPU digests its weights. */
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

/** Milliseconds of all processors for the CRCs of a step. */
function timeCrcs(torus: Torus, executable: Executable): number {
  const elements = executable.buckets.map((bucket) => bucket.elements);
  const { frameBytes } = frameSizes(torus, Math.max(...elements));
  const memory = new WebAssembly.Memory({ initial: 16, maximum: 16, shared: true });
  const crc = frameCrc(memory, 1024);
  const frameMs = time(() => crc.of(1024 + crcScratchBytes, frameBytes));
  return (frameMs * checkedBytes(torus, elements)) / frameBytes;
}

/**
 * Bytes between processes in a step, each as often as it goes into a CRC: at the receiver, and at the
 * sender unless that passes on what it has received, which is so for n − 2 of the 2 (n − 1) chunks
 * that a chip sends in a ring of n.
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

/** Median milliseconds of `work`. */
function time(work: () => unknown): number {
  const ms = Array.from({ length: 400 }, () => {
    const since = performance.now();
    work();
    return performance.now() - since;
  });
  return quantiles(ms).p50;
}
