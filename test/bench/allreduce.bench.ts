import { Worker } from 'node:worker_threads';
import { layOutFabric, resetFabric } from '../../src/fabric/fabric-memory.ts';
import type { Torus } from '../../src/fabric/torus.ts';
import { chipCount, flatTorus, podTorus } from '../../src/fabric/torus.ts';
import type { AllReduceResult, AllReduceTask } from './allreduce.worker.ts';
import type { BenchRow } from './row.ts';

/** Number of f32 in 25 MiB, a quarter of the gradients of a ResNet-50. */
const elements = (25 * 2 ** 20) / 4;

/**
 * Times an all-reduce of 25 MiB over eight workers in threads. The limit is the time in which two
 * threads could read the vector of every chip once and write the sum once for every worker. The
 * speed of these threads is the speed at which they copy memory.
 */
export async function run(): Promise<BenchRow[]> {
  const ranks = flatTorus(4, 2);
  const pod = podTorus({ columns: 4, rows: 2 });
  return [
    await measure('all-reduce 25 MiB, 8 workers, 8 chips', ranks, 45),
    await measure('all-reduce 25 MiB, 8 Cloud TPUs, 32 chips', pod, 17),
  ];
}

async function measure(name: string, torus: Torus, runs: number): Promise<BenchRow> {
  const { ms, copyBandwidth } = await runWorkers(torus, runs);
  const moved = (chipCount(torus) + torus.workers) * elements * 4;
  return {
    name,
    value: median(ms),
    unit: 'ms',
    // Copying reads each byte and writes it, but `copyBandwidth` counts the byte once. So the
    // machine reads and writes twice as many bytes per second.
    limit: (1000 * moved) / (2 * copyBandwidth),
    limitName: `vectors read and sums written at ${(copyBandwidth / 1e9).toFixed(1)} GB/s of copying`,
    higherIsBetter: false,
  };
}

async function runWorkers(torus: Torus, runs: number): Promise<AllReduceResult> {
  const layout = layOutFabric(torus, 1024);
  const stride = elements * 4;
  const vectors = layout.base + layout.bytes;
  const pages = Math.ceil((vectors + chipCount(torus) * stride) / 65536);
  const memory = new WebAssembly.Memory({ initial: pages, maximum: 65536, shared: true });
  resetFabric(memory, layout);
  const barrier = new Int32Array(new SharedArrayBuffer(8));
  const chips = chipCount(torus) / torus.workers;
  const results = await Promise.all(
    Array.from({ length: torus.workers }, (_, worker) => {
      const address = vectors + worker * chips * stride;
      const task = { torus, worker, memory, layout, address, stride, elements, runs, barrier };
      return runWorker(task);
    }),
  );
  const [first] = results;
  if (first === undefined) throw new Error('no workers');
  return first;
}

function runWorker(task: AllReduceTask): Promise<AllReduceResult> {
  const worker = new Worker(new URL('./allreduce.worker.js', import.meta.url), {
    workerData: task,
  });
  return new Promise((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', reject);
  });
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}
