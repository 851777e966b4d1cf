import { openThreadPod } from '../../cluster/threads/pool.ts';
import { trainOptions } from '../../src/cli/options.ts';
import { openDataset } from '../../src/data/open.ts';
import { buildPrograms } from '../../src/experiment/programs.ts';
import { quantiles } from '../../src/experiment/statistics.ts';
import { fusedPeakSample } from './peak.ts';
import type { BenchRow } from './row.ts';

/**
 * A training run to time. It begins with warm-up steps, which load the data and let the engine
 * compile, and which are not timed.
 */
interface Case {
  readonly model: 'mlp' | 'cnn';
  readonly globalBatch: number;
  readonly warmUpSteps: number;
  readonly steps: number;
  /** Floating-point operations of a training step for one image, in matmuls only. */
  readonly flopsPerImage: number;
}

const cases: readonly Case[] = [
  {
    model: 'mlp',
    globalBatch: 1024,
    warmUpSteps: 16,
    steps: 120,
    flopsPerImage: 2 * (2 * 784 * 512 + 3 * 512 * 10),
  },
  {
    model: 'cnn',
    globalBatch: 256,
    warmUpSteps: 6,
    steps: 24,
    flopsPerImage:
      2 * (2 * 26 * 26 * 32 * 9 + 3 * 24 * 24 * 64 * 288 + 3 * 9216 * 128 + 3 * 128 * 10),
  },
];

/**
 * Measures images per second of training on eight Cloud TPUs, from the median time of a step. A
 * step lasts from the master's order to the commit. The limit is the figure of two processors that
 * do nothing but the matmuls, at their peak rate of 128-bit fused multiply-adds. This peak is
 * measured in the same run of the benchmark.
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
  const pod = await openThreadPod({
    topology: config.topology,
    mxu: 'fast',
    programs: [
      {
        executable: programs.train,
        digested: programs.weights,
        feed: {
          dataset: config.data,
          datasetSeed: config.seed,
          split: 'train',
          digest: dataset.train.digest(),
          globalBatch: it.globalBatch,
          order: 'training',
          orderSeed: config.seed,
        },
      },
    ],
  });
  try {
    await pod.writeParameters(0, programs.initialValues);
    const wallMs: number[] = [];
    for (let step = 0; step < it.warmUpSteps + it.steps; step++) {
      const commit = await pod.step(0);
      if (step >= it.warmUpSteps) wallMs.push(commit.wallMs);
    }
    return {
      name: `${it.model} training, global batch ${it.globalBatch}, 8 Cloud TPUs`,
      value: (1000 * it.globalBatch) / quantiles(wallMs).p50,
      unit: 'images/s',
      limit: (2 * peakFlopsPerSecond()) / it.flopsPerImage,
      limitName: 'flops of the matmuls ÷ 128-bit FMA peak of 2 processors',
      higherIsBetter: true,
    };
  } finally {
    await pod.close();
  }
}

/** Peak of one processor with 128-bit fused multiply-adds: the median of many short samples. */
function peakFlopsPerSecond(): number {
  const { operations, run } = fusedPeakSample(
    new WebAssembly.Memory({ initial: 1, maximum: 65536, shared: true }),
  );
  const rates = Array.from({ length: 200 }, () => {
    const since = performance.now();
    run();
    return (1000 * operations) / (performance.now() - since);
  });
  return quantiles(rates).p50;
}
