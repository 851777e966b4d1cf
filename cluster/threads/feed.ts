import type { Dataset, DatasetPair } from '../../src/data/dataset.ts';
import type { Feed } from '../../src/data/loader.ts';
import { openDataset } from '../../src/data/open.ts';
import { evaluationPlan, type Plan, stepsPerPass, trainingPlan } from '../../src/data/plan.ts';
import { PodError } from '../../src/numerics/error.ts';
import type { FeedSource } from '../../src/pod/pod.ts';

/** The dataset of a feed. Throws what `openDataset` and {@link splitOf} throw. */
export function datasetOf(source: FeedSource): Dataset {
  return splitOf(source, openDataset(source.dataset, source.datasetSeed));
}

/**
 * The split of an opened data set that a feed is to have.
 *
 * @throws PodError `bad-data` when its contents are not those that the master has: the worker reads
 *   other files.
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

/** The samples of each core. Throws `bad-flag` when the batch does not split evenly. */
export function planOf(source: FeedSource, size: number, tpus: number, cores: number): Plan {
  const slice = { size, globalBatch: source.globalBatch, replicasPerTpu: cores, tpus };
  return source.order === 'training'
    ? trainingPlan(slice, source.orderSeed)
    : evaluationPlan(slice);
}

/**
 * What the loader does from the program's step `from` on, to the end of a pass: training is one pass
 * without end, an evaluation the data set again and again. Steps of the queue count from `base` on.
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
