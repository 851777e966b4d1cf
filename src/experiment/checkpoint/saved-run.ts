import { z } from 'zod';
import { openDataset, parseDataset } from '../../data/open.ts';
import { PodError } from '../../numerics/error.ts';
import type { Rates } from '../../optimizer/rates.ts';
import { scheduleNames, type TrainConfig, totalSteps } from '../config.ts';
import type { FixedKey, RunIdentity } from '../same-run.ts';
import { ratesOf } from '../schedule.ts';
import type { Fields, Manifest } from './manifest.ts';

/**
 * Field `config` of a manifest: the settings of the run. The field `run` has further values, which
 * identify the run but do not follow from its settings.
 */
export interface SavedConfig extends TrainConfig {
  /** Absent in checkpoints of older versions. */
  readonly run?: RunMark;
}

/** Values that identify a run but do not follow from the settings of the run alone. */
export interface RunMark {
  readonly trainDigest: string;
  readonly startDigest: string | null;
  /** Number of steps of the whole run. */
  readonly steps: number;
  /** Digest of the learning rates of the steps before the checkpoint. */
  readonly ratesDigest: string;
}

/**
 * Returns a text that identifies the run that saved a checkpoint. The length and the learning rates
 * of the run are not in the text, because they may change when the run is resumed.
 */
export function runNameOf(config: Fields | SavedConfig): string {
  const { topology, model, globalBatch, seed, precision, momentum, data, run } = config;
  const { trainDigest = data, startDigest = null } = (run ?? {}) as Partial<RunMark>;
  const all = { topology, model, globalBatch, seed, precision, momentum, trainDigest, startDigest };
  return JSON.stringify(all);
}

/** Returns the field `config` of the manifest of a checkpoint after `step` steps of the run. */
export function savedConfig(
  config: TrainConfig,
  { fixed, steps, rates }: RunIdentity,
  step: number,
): SavedConfig {
  const { trainDigest, startDigest } = fixed;
  return { ...config, run: { trainDigest, startDigest, steps, ratesDigest: rates.digest(step) } };
}

/** The run that saved a checkpoint, read from the checkpoint's manifest. */
export interface SavedRun {
  readonly fixed: Omit<FixedKey, 'trainDigest'>;
  /** Name of the training set, as `--data` gave it when the checkpoint was saved. */
  readonly data: string;
  readonly trainSamples: number;
  /** Number of steps of the whole run. */
  readonly steps: number;
  /**
   * Learning rates of the saved run. They are computed again from the saved settings, because the
   * checkpoint has only a digest of the rates.
   */
  readonly rates: Rates;
  readonly mark: RunMark | undefined;
}

/**
 * Reads the run from a checkpoint's manifest.
 *
 * @throws PodError `bad-config` if the manifest has settings that this version does not know.
 */
export function readSavedRun(name: string, { config, trainSamples }: Manifest): SavedRun {
  const saved = parseConfig(name, config);
  const { mark, topology, data, model, globalBatch, seed, precision, momentum } = saved;
  const steps = mark?.steps ?? totalSteps(saved, trainSamples);
  return {
    fixed: {
      topology: `${topology.columns}x${topology.rows}`,
      ...{ model, globalBatch, seed, precision },
      momentum: Math.fround(momentum),
      startDigest: mark?.startDigest ?? null,
    },
    ...{ data, trainSamples, steps, mark },
    rates: ratesOf(saved, steps),
  };
}

/**
 * Returns the digest of the training set of a saved run; undefined if the digest cannot be
 * determined.
 *
 * A checkpoint of an older version stores only the name of the training set, not the digest. In
 * this case the saved run is compared with the run `now`. If name, size and seed are the same, the
 * digest of `now` is returned. Otherwise the training set with the saved name is opened to compute
 * its digest.
 */
export function trainDigestOf(saved: SavedRun, now: RunIdentity): string | undefined {
  const { mark, data, trainSamples, fixed } = saved;
  if (mark !== undefined) return mark.trainDigest;
  const isNamedAlike = data === now.data && trainSamples === now.trainSamples;
  if (isNamedAlike && fixed.seed === now.fixed.seed) return now.fixed.trainDigest;
  if (parseDataset(data) === undefined) return undefined;
  try {
    return openDataset(data, fixed.seed).train.digest();
  } catch (error) {
    if (error instanceof PodError) return undefined;
    throw error;
  }
}

const count = z.int().min(1);
const anything = z.unknown().optional();
const markSchema = z.strictObject({
  trainDigest: z.string(),
  startDigest: z.string().nullable(),
  steps: count,
  ratesDigest: z.string(),
});
const configSchema = z.strictObject({
  topology: z.strictObject({ columns: count, rows: count }),
  model: z.string(),
  data: z.string(),
  globalBatch: count,
  length: z.discriminatedUnion('unit', [
    z.strictObject({ unit: z.literal('steps'), steps: count }),
    z.strictObject({ unit: z.literal('epochs'), epochs: z.number().positive() }),
  ]),
  learningRate: z.number(),
  schedule: z.enum(scheduleNames),
  warmUp: z.number(),
  momentum: z.number(),
  seed: z.int().min(0),
  precision: z.string(),
  // The result of a run does not depend on the four settings in the next line. One of them,
  // `startFrom`, is only a path. `run.startDigest` identifies the weights that were read from that
  // path.
  ...{ mxu: anything, remat: anything, recovery: anything },
  ...{ evaluate: anything, startFrom: anything },
  run: markSchema.optional(),
});

type Parsed = Omit<z.infer<typeof configSchema>, 'run'> & { readonly mark: RunMark | undefined };

function parseConfig(name: string, config: Fields): Parsed {
  const result = configSchema.safeParse(config);
  if (result.success) {
    const { run, ...rest } = result.data;
    return { ...rest, mark: run };
  }
  const issue = result.error.issues[0];
  const where = issue?.path.join('.');
  const what = where ? `${where}: ${issue?.message}` : issue?.message;
  throw new PodError(
    'bad-config',
    `checkpoint ${name} has settings that this version of pod does not know (${what}): resume with the version that saved it, or use another directory`,
  );
}
