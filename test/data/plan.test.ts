import fc from 'fast-check';
import { expect, test } from 'vitest';
import { permutation, permute } from '../../src/data/order.ts';
import {
  assignSamples,
  evaluationPlan,
  type Plan,
  stepsPerPass,
  tpuBatch,
  trainingPlan,
} from '../../src/data/plan.ts';

test('training: each epoch uses every sample once, also if the batch does not divide its size', () => {
  fc.assert(
    fc.property(slices, fc.nat(1000), fc.integer({ min: 1, max: 3 }), (slice, seed, epochs) => {
      const plan = trainingPlan(slice, seed);
      const samples = firstSamples(plan, epochs * slice.size);
      for (let epoch = 0; epoch < epochs; epoch++) {
        const seen = samples.slice(epoch * slice.size, (epoch + 1) * slice.size);
        expect(seen.toSorted((a, b) => a - b)).toEqual(seen.map((_, i) => i));
      }
    }),
  );
});

test('training: replica r of R has the positions s·B + r·B/R + i', () => {
  fc.assert(
    fc.property(slices, fc.nat(1000), fc.nat(1000), (slice, seed, step) => {
      const plan = trainingPlan(slice, seed);
      const { size, globalBatch, replicasPerTpu, tpus } = slice;
      const perReplica = globalBatch / (replicasPerTpu * tpus);
      for (let replica = 0; replica < replicasPerTpu * tpus; replica++) {
        const tpu = Math.floor(replica / replicasPerTpu);
        const from = (replica % replicasPerTpu) * perReplica;
        const found = assigned(plan, tpu, step).slice(from, from + perReplica);
        const expected = found.map((_, i) => {
          const position = step * globalBatch + replica * perReplica + i;
          const order = permutation(seed, Math.floor(position / size), size);
          return permute(order, position % size);
        });
        expect(found).toEqual(expected);
      }
    }),
  );
});

test('the global batch does not depend on the number of Cloud TPUs', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 99 }), fc.nat(99), fc.nat(99), (size, seed, step) => {
      const on = (tpus: number): number[] =>
        globalBatchOf(trainingPlan({ size, globalBatch: 64, replicasPerTpu: 8, tpus }, seed), step);
      for (const tpus of [2, 4, 8]) expect(on(tpus)).toEqual(on(1));
    }),
  );
});

test('evaluation: the samples in order, then padding', () => {
  fc.assert(
    fc.property(slices, (slice) => {
      const plan = evaluationPlan(slice);
      const steps = stepsPerPass(plan);
      expect((steps - 1) * slice.globalBatch).toBeLessThan(slice.size);
      const samples = firstSamples(plan, steps * slice.globalBatch);
      expect(samples).toEqual(samples.map((_, i) => (i < slice.size ? i : -1)));
    }),
  );
});

test('a batch that does not split evenly is refused in one line', () => {
  const slice = { size: 100, globalBatch: 100, replicasPerTpu: 8, tpus: 8 };
  const message = /expected a multiple of 64, found 100$/;
  expect(() => trainingPlan(slice, 0)).toThrow(message);
  expect(() => evaluationPlan(slice)).toThrow(
    expect.objectContaining({ code: 'bad-flag', message: expect.stringMatching(message) }),
  );
});

const slices = fc
  .record({
    size: fc.integer({ min: 1, max: 60 }),
    perReplica: fc.integer({ min: 1, max: 3 }),
    replicasPerTpu: fc.constantFrom(1, 2, 8),
    tpus: fc.integer({ min: 1, max: 4 }),
  })
  .map(({ size, perReplica, replicasPerTpu, tpus }) => {
    return { size, globalBatch: perReplica * replicasPerTpu * tpus, replicasPerTpu, tpus };
  });

function firstSamples(plan: Plan, count: number): number[] {
  const samples: number[] = [];
  for (let step = 0; samples.length < count; step++) samples.push(...globalBatchOf(plan, step));
  return samples.slice(0, count);
}

function globalBatchOf(plan: Plan, step: number): number[] {
  return Array.from({ length: plan.tpus }, (_, tpu) => assigned(plan, tpu, step)).flat();
}

function assigned(plan: Plan, tpu: number, step: number): number[] {
  const samples = new Float64Array(tpuBatch(plan));
  assignSamples(plan, tpu, step, samples);
  return [...samples];
}
