import { assert } from '../numerics/assert.ts';
import { PodError } from '../numerics/error.ts';
import { permutation, permute } from './order.ts';

/**
 * Which samples each replica gets at each step. Step s of global batch B has the positions
 * [s·B, (s+1)·B) of a stream; replica r of R has [s·B + r·B/R, s·B + (r+1)·B/R) of them; Cloud TPU t
 * holds the replicas [8t, 8t + 8). So who computes what does not depend on the workers.
 *
 * `training`: the stream is one epoch after another, each a permutation of [0, size), and goes on
 * for ever: also where B does not divide the size, every sample comes once an epoch.
 * `evaluation`: the stream is [0, size) once, in order, and then padding.
 */
export interface Plan {
  readonly kind: 'training' | 'evaluation';
  /** Samples of the dataset. */
  readonly size: number;
  readonly globalBatch: number;
  /** Replicas of a Cloud TPU: its cores. */
  readonly replicasPerTpu: number;
  readonly tpus: number;
  /** Seed of the order of each epoch; unused in evaluation. */
  readonly seed: number;
}

/** What a plan is made from. */
export type Slice = Pick<Plan, 'size' | 'globalBatch' | 'replicasPerTpu' | 'tpus'>;

/** @throws PodError `bad-flag` when the batch does not split evenly over the replicas. */
export function trainingPlan(slice: Slice, seed: number): Plan {
  return { ...checked(slice), kind: 'training', seed };
}

/** @throws PodError `bad-flag` when the batch does not split evenly over the replicas. */
export function evaluationPlan(slice: Slice): Plan {
  return { ...checked(slice), kind: 'evaluation', seed: 0 };
}

/** Steps that it takes to see every sample: of an epoch, rounded up, or of the evaluation. */
export function stepsPerPass({ size, globalBatch }: Plan): number {
  return Math.ceil(size / globalBatch);
}

/** Samples of one Cloud TPU in one step. */
export function tpuBatch({ globalBatch, tpus }: Plan): number {
  return globalBatch / tpus;
}

/**
 * Writes the samples of Cloud TPU `tpu` at `step` to the first `tpuBatch(plan)` of `samples`,
 * replica after replica; -1 stands for padding.
 */
export function assignSamples(plan: Plan, tpu: number, step: number, samples: Float64Array): void {
  const count = tpuBatch(plan);
  assert(tpu >= 0 && tpu < plan.tpus, `Cloud TPU ${tpu} of ${plan.tpus}`);
  assert(samples.length >= count, `room for ${samples.length} of ${count} samples`);
  const first = step * plan.globalBatch + tpu * count;
  assert(Number.isSafeInteger(first + count), `step ${step} is too far`);
  if (plan.kind === 'training') assignShuffled(plan, first, count, samples);
  else assignInOrder(plan, first, count, samples);
}

function assignShuffled(plan: Plan, first: number, count: number, samples: Float64Array): void {
  const { seed, size } = plan;
  let epoch = Math.floor(first / size);
  let order = permutation(seed, epoch, size);
  for (let i = 0; i < count; i++) {
    if (first + i >= (epoch + 1) * size) {
      epoch++;
      order = permutation(seed, epoch, size);
    }
    samples[i] = permute(order, first + i - epoch * size);
  }
}

function assignInOrder({ size }: Plan, first: number, count: number, samples: Float64Array): void {
  for (let i = 0; i < count; i++) samples[i] = first + i < size ? first + i : -1;
}

function checked(slice: Slice): Slice {
  const { size, globalBatch, replicasPerTpu, tpus } = slice;
  for (const count of [size, globalBatch, replicasPerTpu, tpus]) {
    assert(Number.isInteger(count) && count >= 1, `a plan with a count of ${count}`);
  }
  const replicas = replicasPerTpu * tpus;
  if (globalBatch % replicas !== 0) {
    throw new PodError(
      'bad-flag',
      `the global batch must split evenly over ${replicas} replicas (${tpus} Cloud TPUs of ` +
        `${replicasPerTpu} cores): expected a multiple of ${replicas}, found ${globalBatch}`,
    );
  }
  return { size, globalBatch, replicasPerTpu, tpus };
}
