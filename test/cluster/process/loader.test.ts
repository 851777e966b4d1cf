import fc from 'fast-check';
import { expect, test } from 'vitest';
import { layOutProcess } from '../../../cluster/process/layout.ts';
import { Loader } from '../../../cluster/process/loader.ts';
import { infeedGeometry } from '../../../cluster/runtime/layout.ts';
import { trainOptions } from '../../../src/cli/options.ts';
import { fillScratch, fillStep } from '../../../src/data/fill.ts';
import { InfeedQueue } from '../../../src/data/infeed.ts';
import { openDataset } from '../../../src/data/open.ts';
import { evaluationPlan, stepsPerPass, trainingPlan } from '../../../src/data/plan.ts';
import { buildPrograms } from '../../../src/experiment/programs.ts';
import { podTorus } from '../../../src/fabric/torus.ts';
import { at } from '../../../src/numerics/assert.ts';
import type { FeedSource, Program } from '../../../src/pod/pod.ts';

const dataset = 'digits:3000';
const tpus = 2;
const globalBatch = 192;
const { config } = trainOptions({ model: 'mlp', tpus, globalBatch, data: dataset });
const opened = openDataset(dataset, 0);
const { train, evaluate, weights } = buildPrograms(config, opened, 2);
const common = { dataset, datasetSeed: 0, globalBatch, orderSeed: 5, firstStep: 2 } as const;
const feeds: readonly FeedSource[] = [
  { ...common, split: 'train', order: 'training', digest: opened.train.digest() },
  { ...common, split: 'test', order: 'evaluation', digest: opened.test.digest() },
];
const programs: readonly Program[] = [
  { executable: train, digested: weights, feed: feeds[0]! },
  { executable: evaluate, digested: weights, parametersFrom: 0, feed: feeds[1]! },
];

test('every step of every program gets its own samples, from any first step', async () => {
  const steps = fc.tuple(fc.nat(500), fc.nat(500));
  const takes = fc.array(fc.nat(1), { minLength: 1, maxLength: 12 });
  await fc.assert(
    fc.asyncProperty(fc.nat(tpus - 1), steps, takes, async (tpu, fromSteps, order) => {
      const { loader, queues } = loaderOf(tpu);
      loader.begin(fromSteps);
      const next = [0, 0];
      for (const program of order) {
        const step = at(next, program);
        next[program] = step + 1;
        const queue = at(queues, program);
        await untilFull(queue, step);
        const expected = stepOf(tpu, program, at(fromSteps, program) + step);
        expect(Buffer.compare(bytesOf(queue.images(step)), bytesOf(expected.images))).toBe(0);
        expect(queue.labels(step)).toEqual(expected.labels);
        queue.release(step);
        loader.wake();
      }
      loader.stop();
    }),
    { numRuns: 15 },
  );
});

test('a data set that cannot be read is reported, and nothing is fed', () => {
  const missing: FeedSource = { ...at(feeds, 0), dataset: 'mnist:/nowhere' };
  const errors: unknown[] = [];
  const { loader } = loaderOf(0, [{ ...at(programs, 0), feed: missing }], (it) => errors.push(it));
  loader.begin([0]);
  expect(errors).toEqual([expect.objectContaining({ code: 'bad-data' })]);
});

test('files with other contents than those of the master are refused with both digests', () => {
  const { train: digits } = openDataset(dataset, 1);
  const feed: FeedSource = { ...at(feeds, 0), digest: digits.digest() };
  const errors: unknown[] = [];
  const { loader } = loaderOf(0, [{ ...at(programs, 0), feed }], (it) => errors.push(it));
  loader.begin([0]);
  const [expected, found] = [digits, opened.train].map((it) => it.digest().slice(0, 16));
  expect(errors).toEqual([
    expect.objectContaining({
      code: 'bad-data',
      message: `${dataset}: expected the train images with digest ${expected}, as the master has, found digest ${found}; give all machines the same files`,
    }),
  ]);
});

function loaderOf(
  tpu: number,
  of: readonly Program[] = programs,
  failed: (error: unknown) => void = fail,
): { readonly loader: Loader; readonly queues: readonly InfeedQueue[] } {
  const torus = podTorus(config.topology);
  const processOf = Array.from({ length: torus.workers }, (_, worker) => worker);
  const executables = of.map(({ executable }) => executable);
  const { threads: layout, bytes } = layOutProcess({ torus, processOf, self: tpu }, executables);
  const pages = Math.ceil(bytes / 65536);
  const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
  const queues = executables.map((executable, program) => {
    const place = at(at(layout.tpus, tpu).infeeds, program);
    return new InfeedQueue(memory.buffer, place, infeedGeometry(executable, tpu));
  });
  return { loader: new Loader({ tpu, programs: of, memory, layout, failed }), queues };
}

/**
 * Returns the bytes of an array. Tests compare these bytes with Buffer.compare, which is faster
 * than a comparison of the elements with expect().
 */
function bytesOf({ buffer, byteOffset, byteLength }: Float32Array): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}

function fail(error: unknown): never {
  throw error;
}

/**
 * Waits until the loader has filled the slot of `step`. Lets the event loop run between two checks,
 * because the loader needs it.
 */
async function untilFull(queue: InfeedQueue, step: number): Promise<void> {
  for (let turns = 0; turns < 10_000; turns++) {
    if (isFull(queue, step)) return;
    await new Promise((resolve) => setImmediate(resolve));
  }
  throw new Error(`step ${step} was not fed`);
}

function isFull(queue: InfeedQueue, step: number): boolean {
  try {
    return queue.consume(step, 0, 'the loader') !== undefined;
  } catch {
    return false;
  }
}

/** Returns the images and labels that one step of a program must get. */
function stepOf(
  tpu: number,
  program: number,
  step: number,
): { readonly images: Float32Array; readonly labels: Int32Array } {
  const { split, order, orderSeed } = at(feeds, program);
  const samples = openDataset(dataset, 0)[split];
  const slice = { size: samples.size, globalBatch, replicasPerTpu: 8, tpus };
  const plan = order === 'training' ? trainingPlan(slice, orderSeed) : evaluationPlan(slice);
  const count = globalBatch / tpus;
  const images = new Float32Array(count * samples.rows * samples.columns);
  const labels = new Int32Array(count);
  const place = order === 'training' ? step : step % stepsPerPass(plan);
  fillStep(samples, plan, tpu, place, images, labels, fillScratch(samples, plan));
  return { images, labels };
}
