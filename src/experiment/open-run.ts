import type { DatasetPair } from '../data/dataset.ts';
import { openDataset } from '../data/open.ts';
import { readStart, type Start } from './checkpoint/start-from.ts';
import type { TrainConfig } from './config.ts';
import { identityOf, type RunIdentity } from './same-run.ts';

/**
 * A run whose data set and initial weights have been read. The identity of the run is therefore
 * known before the first step.
 */
export interface OpenedRun {
  readonly config: TrainConfig;
  readonly dataset: DatasetPair;
  /** The weights that the run begins with; undefined if the weights are drawn from the seed. */
  readonly start: Start | undefined;
  readonly identity: RunIdentity;
}

/**
 * Reads the data set of a run and, if the run has `startFrom`, the weights to begin with.
 *
 * @throws PodError `bad-data` or `io` if the data set or the weights cannot be read, `bad-flag` if
 *   the run is too long.
 */
export async function openRun(config: TrainConfig): Promise<OpenedRun> {
  const { startFrom } = config;
  const dataset = openDataset(config.data, config.seed);
  const start = startFrom === undefined ? undefined : await readStart(startFrom);
  const identity = identityOf(config, dataset.train, start?.weightsDigest ?? null);
  return { config, dataset, start, identity };
}
