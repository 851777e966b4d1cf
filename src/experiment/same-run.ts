import { createHash } from 'node:crypto';
import { z } from 'zod';
import type { Dataset } from '../data/dataset.ts';
import { formatTopology, isStandardGrid, parseTopology } from '../fabric/torus.ts';
import type { Rates } from '../optimizer/rates.ts';
import { type TrainConfig, totalSteps } from './config.ts';
import { ratesOf } from './schedule.ts';

/**
 * What makes two runs the same run: after every step both have the same bits of weights and of
 * optimizer state. It goes by results, not by the words of settings. Resuming from a checkpoint, the
 * commit log of a cluster and jobs all ask here.
 *
 * Settings that do not change a bit of the weights (`mxu`, `recovery`, `evaluate`, `relaxedSimd`,
 * and where output goes) are not part of it.
 */
export interface RunKey {
  /** Grid of Cloud TPUs as `4x2`: it decides the order of sums. */
  readonly topology: string;
  readonly model: string;
  readonly globalBatch: number;
  /** Seed of the initial weights and of the order of examples. */
  readonly seed: number;
  readonly precision: string;
  /** As the device has it, an f32. */
  readonly momentum: number;
  /** Digest of the contents of the training set. */
  readonly trainDigest: string;
  /** Digest of the weights that the run begins with; null when they are drawn from the seed. */
  readonly startDigest: string | null;
  /** Steps of the whole run. */
  readonly steps: number;
  /** Digest of the learning rates of all steps, as f32. */
  readonly ratesDigest: string;
}

/** A run with all that its key is made of. */
export interface RunIdentity {
  readonly fixed: FixedKey;
  readonly steps: number;
  readonly rates: Rates;
  /** The training set as the user named it, for messages. */
  readonly data: string;
  readonly trainSamples: number;
}

/** The part of a key that no longer run and no other schedule changes. */
export type FixedKey = Omit<RunKey, 'steps' | 'ratesDigest'>;

/**
 * The identity of a run over a training set. `startDigest` is the digest of the weights of
 * `--start-from`, if the run has that.
 *
 * @throws PodError `bad-flag` when the run would be longer than there can be.
 */
export function identityOf(
  config: TrainConfig,
  train: Pick<Dataset, 'size' | 'digest'>,
  startDigest: string | null,
): RunIdentity {
  const steps = totalSteps(config, train.size);
  return {
    fixed: {
      topology: formatTopology(config.topology),
      model: config.model,
      globalBatch: config.globalBatch,
      seed: config.seed,
      precision: config.precision,
      momentum: Math.fround(config.momentum),
      trainDigest: train.digest(),
      startDigest,
    },
    steps,
    rates: ratesOf(config, steps),
    data: config.data,
    trainSamples: train.size,
  };
}

/** The key of a run. Computes the learning rate of every step. */
export function keyOf({ fixed, steps, rates }: RunIdentity): RunKey {
  return { ...fixed, steps, ratesDigest: rates.digest(steps) };
}

/** A name for a key, the same for equal keys: 64 hexadecimal digits. */
export function keyDigest(key: object): string {
  const fields = Object.entries(key).sort(([a], [b]) => (a < b ? -1 : 1));
  return createHash('sha256').update(JSON.stringify(fields)).digest('hex');
}

/** A key that was written down; undefined when it is none that this version knows. */
export function readKey(value: unknown): RunKey | undefined {
  const { success, data } = keySchema.safeParse(value);
  return success ? data : undefined;
}

const keySchema: z.ZodType<RunKey> = z.strictObject({
  topology: z.string().regex(/^[1-8]x[1-8]$/),
  model: z.string(),
  globalBatch: z.number(),
  seed: z.number(),
  precision: z.string(),
  momentum: z.number(),
  trainDigest: z.string(),
  startDigest: z.string().nullable(),
  steps: z.number(),
  ratesDigest: z.string(),
});

/** Where two runs differ first, in words that can follow "this run has". */
export interface Difference {
  readonly was: string;
  readonly is: string;
  /** The flag that gives a run what the other one had, where a flag can. */
  readonly flag?: string;
}

/** The first difference between two keys; undefined when they are of the same run. */
export function differenceBetween<K extends keyof RunKey>(
  was: Pick<RunKey, K>,
  is: Pick<RunKey, K>,
): Difference | undefined {
  const names = Object.keys(describe) as K[];
  const name = names.find((it) => it in was && it in is && was[it] !== is[it]);
  if (name === undefined) return undefined;
  const flag = flags[name]?.(was[name] as never);
  const words = describe[name] as (value: unknown) => string;
  return { was: words(was[name]), is: words(is[name]), ...(flag !== undefined && { flag }) };
}

/** How messages speak of each part of a key. Its order is that in which differences are named. */
const describe: { readonly [K in keyof RunKey]: (value: RunKey[K]) => string } = {
  topology: (it) => `${count(tpusOf(it), 'Cloud TPU')} (${it})`,
  model: (it) => `model ${it}`,
  globalBatch: (it) => `global batch ${it}`,
  seed: (it) => `seed ${it}`,
  precision: (it) => `precision ${it}`,
  momentum: (it) => `momentum ${shortest(it)}`,
  trainDigest: (it) => `a training set with contents ${short(it)}`,
  startDigest: (it) =>
    it === null ? 'initial weights drawn from its seed' : `weights ${short(it)} to start from`,
  steps: (it) => count(it, 'step'),
  ratesDigest: () => 'other learning rates',
};

/** Flags that bring back what a run had. */
const flags: { readonly [K in keyof RunKey]?: (value: RunKey[K]) => string } = {
  topology: (it) =>
    isStandardGrid(parseTopology(it)) ? `--tpus ${tpusOf(it)}` : `--topology ${it}`,
  model: (it) => `--model ${it}`,
  globalBatch: (it) => `--global-batch ${it}`,
  seed: (it) => `--seed ${it}`,
  precision: (it) => `--precision ${it}`,
  momentum: (it) => `--momentum ${shortest(it)}`,
  startDigest: (it) => (it === null ? 'no --start-from' : 'the --start-from of then'),
};

/** The first digits of a digest, enough to tell two apart. */
export function short(digest: string): string {
  return digest.slice(0, 12);
}

/** The shortest decimal that rounds to an f32. */
export function shortest(value: number): string {
  for (let digits = 1; digits < 9; digits++) {
    const text = String(Number(value.toPrecision(digits)));
    if (Math.fround(Number(text)) === value) return text;
  }
  return String(value);
}

function tpusOf(topology: string): number {
  const { columns, rows } = parseTopology(topology);
  return columns * rows;
}

function count(number: number, what: string): string {
  return `${number} ${what}${number === 1 ? '' : 's'}`;
}
