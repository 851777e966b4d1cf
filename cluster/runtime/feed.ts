import type { Dataset, DatasetPair } from '../../src/data/dataset.ts';
import type { Feed } from '../../src/data/loader.ts';
import { openDataset } from '../../src/data/open.ts';
import { evaluationPlan, type Plan, stepsPerPass, trainingPlan } from '../../src/data/plan.ts';
import { PodError } from '../../src/numerics/error.ts';
import type { FeedSource } from '../../src/pod/pod.ts';

/**
 * Opens the dataset of the given feed and returns the split (`train` or `test`) that the feed uses.
 * Throws what `openDataset` and {@link splitOf} throw.
 */
export function datasetOf(source: FeedSource): Dataset {
  return splitOf(source, openDataset(source.dataset, source.datasetSeed));
}

/**
 * Returns the split (`train` or `test`) of an opened dataset that the given feed uses.
 *
 * @throws PodError `bad-data` if the split differs from the split on the master, because the
 * dataset's files on this machine are different.
 */
export function splitOf({ dataset, split, digest }: FeedSource, opened: DatasetPair): Dataset {
  const found = opened[split];
  if (found.digest() === digest) return found;
  const [expected, actual] = [digest, found.digest()].map((it) => it.slice(0, 16));
  throw new PodError(
    'bad-data',
    `${dataset}: expected the ${split} images with digest ${expected}, as the master has, found digest ${actual}; give all machines the same files`,
  );
}

/**
 * Returns the plan that assigns samples to cores. `size` is how many samples the dataset has.
 * Throws `bad-flag` if the global batch does not split evenly over the cores.
 */
export function planOf(source: FeedSource, size: number, tpus: number, cores: number): Plan {
  const slice = { size, globalBatch: source.globalBatch, replicasPerTpu: cores, tpus };
  return source.order === 'training'
    ? trainingPlan(slice, source.orderSeed)
    : evaluationPlan(slice);
}

/**
 * Returns which steps of a program the loader loads next, from step `from` on. For training, the
 * steps have no end. For evaluation, they end when every sample of the dataset has been used once;
 * the caller then calls again for the next steps. In the queue, step s of the program has the
 * number s − `base`: `base` is the first step that was loaded since the queue was last emptied.
 */
export function passFrom(
  source: FeedSource,
  dataset: Dataset,
  plan: Plan,
  from: number,
  base: number,
): Feed {
  const queueStep = from - base;
  if (source.order === 'training') {
    return { dataset, plan, firstStep: from, steps: Number.POSITIVE_INFINITY, queueStep };
  }
  const length = stepsPerPass(plan);
  const firstStep = from % length;
  return { dataset, plan, firstStep, steps: length - firstStep, queueStep };
}
