import { z } from 'zod';
import { openDataset, parseDataset } from '../../data/open.ts';
import { PodError } from '../../numerics/error.ts';
import type { Rates } from '../../optimizer/rates.ts';
import { scheduleNames, type TrainConfig, totalSteps } from '../config.ts';
import type { FixedKey, RunIdentity } from '../same-run.ts';
import { ratesOf } from '../schedule.ts';
import type { Fields, Manifest } from './manifest.ts';

/** `config` of a manifest: the settings of the run, and what made it the run that it was. */
export interface SavedConfig extends TrainConfig {
  /** Missing in checkpoints of older versions. */
  readonly run?: RunMark;
}

/** The part of a run's key that does not follow from its settings alone. */
export interface RunMark {
  readonly trainDigest: string;
  readonly startDigest: string | null;
  /** Steps of the whole run. */
  readonly steps: number;
  /** Digest of the learning rates of the steps that are done. */
  readonly ratesDigest: string;
}

/** One text for all checkpoints of a run, however long it is and whatever its learning rates are. */
export function runNameOf(config: Fields | SavedConfig): string {
  const { topology, model, globalBatch, seed, precision, momentum, data, run } = config;
  const { trainDigest = data, startDigest = null } = (run ?? {}) as Partial<RunMark>;
  const all = { topology, model, globalBatch, seed, precision, momentum, trainDigest, startDigest };
  return JSON.stringify(all);
}

/** What a checkpoint after `step` steps keeps of its run. */
export function savedConfig(
  config: TrainConfig,
  { fixed, steps, rates }: RunIdentity,
  step: number,
): SavedConfig {
  const { trainDigest, startDigest } = fixed;
  return { ...config, run: { trainDigest, startDigest, steps, ratesDigest: rates.digest(step) } };
}

/** The run that a checkpoint is of. */
export interface SavedRun {
  readonly fixed: Omit<FixedKey, 'trainDigest'>;
  /** As it was named then. */
  readonly data: string;
  readonly trainSamples: number;
  /** Steps of the whole run. */
  readonly steps: number;
  /** Its learning rates, as this version computes them. */
  readonly rates: Rates;
  readonly mark: RunMark | undefined;
}

/** @throws PodError `bad-config` when it has settings that this version does not know. */
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
 * The digest of the training set that a saved run was trained on; undefined when it cannot be known.
 * Checkpoints of older versions keep only its name: digits are drawn again, and of files the same
 * name is taken for the same contents, as those versions did.
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
  // No bit depends on these; on the contents of `startFrom` it does, which `run` has.
  ...{ mxu: anything, recovery: anything, evaluate: anything, startFrom: anything },
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
