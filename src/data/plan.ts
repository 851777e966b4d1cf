import { assert } from '../numerics/assert.ts';
import { PodError } from '../numerics/error.ts';
import { permutation, permute } from './order.ts';

/**
 * Assignment of samples to replicas at each step. With a global batch of B samples, step s takes
 * the positions [s·B, (s+1)·B) of a stream of samples. Replica r of R replicas takes the positions
 * [s·B + r·B/R, s·B + (r+1)·B/R). Cloud TPU t holds the replicas [8t, 8t + 8). The assignment does
 * not depend on which worker hosts a Cloud TPU.
 *
 * `training`: the stream is an endless sequence of epochs, each a permutation of [0, size). If B
 * does not divide the size, a step may begin in one epoch and end in a later one.
 *
 * `evaluation`: the stream is [0, size) once, in order, then padding.
 */
export interface Plan {
  readonly kind: 'training' | 'evaluation';
  /** How many samples the dataset has. */
  readonly size: number;
  readonly globalBatch: number;
  /** How many replicas a Cloud TPU has. Each core is a replica. */
  readonly replicasPerTpu: number;
  readonly tpus: number;
  /** Seed of the order of each epoch; unused in evaluation. */
  readonly seed: number;
}

/** Sizes of the dataset, the global batch and the slice. A plan is made from them. */
export type Slice = Pick<Plan, 'size' | 'globalBatch' | 'replicasPerTpu' | 'tpus'>;

/**
 * Returns the plan of a training run.
 *
 * @throws PodError `bad-flag` if the global batch does not split evenly over the replicas.
 */
export function trainingPlan(slice: Slice, seed: number): Plan {
  return { ...checked(slice), kind: 'training', seed };
}

/**
 * Returns the plan of an evaluation.
 *
 * @throws PodError `bad-flag` if the global batch does not split evenly over the replicas.
 */
export function evaluationPlan(slice: Slice): Plan {
  return { ...checked(slice), kind: 'evaluation', seed: 0 };
}

/** Returns how many steps it takes to go through the dataset once, rounded up. */
export function stepsPerPass({ size, globalBatch }: Plan): number {
  return Math.ceil(size / globalBatch);
}

/** Returns how many samples a Cloud TPU receives in one step. */
export function tpuBatch({ globalBatch, tpus }: Plan): number {
  return globalBatch / tpus;
}

/**
 * Writes the indices of the samples of Cloud TPU `tpu` at `step` to the first `tpuBatch(plan)`
 * elements of `samples`, replica after replica. The index -1 stands for padding.
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
