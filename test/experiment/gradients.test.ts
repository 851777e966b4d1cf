import { expect, test } from 'vitest';
import { openThreadPod } from '../../cluster/threads/pool.ts';
import { trainOptions } from '../../src/cli/options.ts';
import { openDataset } from '../../src/data/open.ts';
import { buildPrograms } from '../../src/experiment/programs.ts';
import { at } from '../../src/numerics/assert.ts';
import { requireCompiled } from '../cluster/compiled.ts';

requireCompiled();

test.each(['mlp', 'cnn'] as const)(
  '%s: a step on 1, 2, 4 and 8 Cloud TPUs gives the same gradients for one global batch',
  async (model) => {
    for (const precision of ['f32', 'bf16'] as const) {
      const alone = await gradients(model, 1, precision);
      for (const tpus of [2, 4, 8]) {
        const shared = await gradients(model, tpus, precision);
        for (const [i, gradient] of shared.entries()) {
          expect(distance(gradient, at(alone, i))).toBeLessThan(1e-5);
        }
      }
    }
  },
  120_000,
);

/**
 * Trains one step and returns its gradients. It reads them from the state of the optimizer: the
 * first step computes momentum = 0.9 · 0 + gradient, so the momentum equals the gradient.
 */
async function gradients(
  model: 'mlp' | 'cnn',
  tpus: number,
  precision: 'f32' | 'bf16',
): Promise<Float32Array[]> {
  const { config } = trainOptions({ model, tpus, globalBatch: 64, steps: 1, precision });
  const dataset = openDataset('digits', 0);
  const { train, weights, initialValues } = buildPrograms(config, dataset, 1);
  const pod = await openThreadPod({
    topology: config.topology,
    mxu: 'fast',
    programs: [
      {
        executable: train,
        digested: weights,
        feed: {
          dataset: 'digits',
          datasetSeed: 0,
          split: 'train',
          digest: dataset.train.digest(),
          globalBatch: 64,
          order: 'training',
          orderSeed: 0,
        },
      },
    ],
  });
  try {
    await pod.writeParameters(0, initialValues);
    await pod.step(0);
    const after = await pod.readParameters(0);
    const momenta = after.slice(weights, 2 * weights);
    expect(momenta.map((it) => it.length)).toEqual(
      initialValues.slice(0, weights).map((it) => it.length),
    );
    return momenta.map((bytes) => new Float32Array(bytes.buffer, 0, bytes.length / 4));
  } finally {
    await pod.close();
  }
}

/**
 * Returns the largest difference between elements of `a` and `b`, divided by the largest magnitude
 * of an element of `b`.
 */
function distance(a: Float32Array, b: Float32Array): number {
  let difference = 0;
  let largest = 0;
  for (let i = 0; i < a.length; i++) {
    difference = Math.max(difference, Math.abs(at(a, i) - at(b, i)));
    largest = Math.max(largest, Math.abs(at(b, i)));
  }
  expect(largest).toBeGreaterThan(0);
  return difference / largest;
}
