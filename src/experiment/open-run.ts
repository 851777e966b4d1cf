import type { DatasetPair } from '../data/dataset.ts';
import { openDataset } from '../data/open.ts';
import { readStart, type Start } from './checkpoint/start-from.ts';
import type { TrainConfig } from './config.ts';
import { identityOf, type RunIdentity } from './same-run.ts';

/** A run whose files have been read: which run it is can be said before it begins. */
export interface OpenedRun {
  readonly config: TrainConfig;
  readonly dataset: DatasetPair;
  /** The weights to begin with; undefined when they are drawn from the seed. */
  readonly start: Start | undefined;
  readonly identity: RunIdentity;
}

/**
 * Reads what a run is made of: its data, and its weights to start from.
 *
 * @throws PodError `bad-data` or `io` when they cannot be had, `bad-flag` when the run is too long.
 */
export async function openRun(config: TrainConfig): Promise<OpenedRun> {
  const { startFrom } = config;
  const dataset = openDataset(config.data, config.seed);
  const start = startFrom === undefined ? undefined : await readStart(startFrom);
  const identity = identityOf(config, dataset.train, start?.weightsDigest ?? null);
  return { config, dataset, start, identity };
}
