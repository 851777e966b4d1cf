import { createHash } from 'node:crypto';
import { z } from 'zod';
import type { Dataset } from '../data/dataset.ts';
import { formatTopology, isStandardGrid, parseTopology } from '../fabric/torus.ts';
import type { Rates } from '../optimizer/rates.ts';
import { type TrainConfig, totalSteps } from './config.ts';
import { ratesOf } from './schedule.ts';

/**
 * Key of a run: the values on which the bits of the result depend. Two runs with equal keys are the
 * same run: after every step both have the same bits of weights and of optimizer state. Settings
 * that are written differently but lead to the same values give the same key. Keys are compared to
 * decide whether a checkpoint, a commit log or a restarted job belongs to a run.
 *
 * Settings that do not change a bit of the weights are not part of the key: `mxu`, `remat`,
 * `recovery`, `evaluate`, `relaxedSimd` and the paths of outputs.
 */
export interface RunKey {
  /** Grid of Cloud TPUs, such as `4x2`. It determines the order of sums. */
  readonly topology: string;
  readonly model: string;
  readonly globalBatch: number;
  /** Seed of the initial weights and of the order of examples. */
  readonly seed: number;
  readonly precision: string;
  /** Momentum, rounded to f32 as on the device. */
  readonly momentum: number;
  /** Digest of the contents of the training set. */
  readonly trainDigest: string;
  /**
   * Digest of the weights that the run begins with; null if the weights are drawn from the seed.
   */
  readonly startDigest: string | null;
  /** Number of steps of the whole run. */
  readonly steps: number;
  /** Digest of the learning rates of all steps, as f32. */
  readonly ratesDigest: string;
}

/** Values from which the key of a run is computed, and the name and size of its training set. */
export interface RunIdentity {
  readonly fixed: FixedKey;
  readonly steps: number;
  readonly rates: Rates;
  /** The name of the training set that the user gave, for messages. */
  readonly data: string;
  readonly trainSamples: number;
}

/** The part of a run's key that does not depend on the length or the schedule of the run. */
export type FixedKey = Omit<RunKey, 'steps' | 'ratesDigest'>;

/**
 * Returns the identity of a run over a training set. `startDigest` is the digest of the weights of
 * `--start-from`; null for a run without that flag.
 *
 * @throws PodError `bad-flag` if the run would be too long.
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

/** Returns the key of a run. Computes the learning rate of every step. */
export function keyOf({ fixed, steps, rates }: RunIdentity): RunKey {
  return { ...fixed, steps, ratesDigest: rates.digest(steps) };
}

/**
 * Returns a digest of a run's key: 64 hexadecimal digits. The order of the fields in the key does
 * not change the digest.
 */
export function keyDigest(key: object): string {
  const fields = Object.entries(key).sort(([a], [b]) => (a < b ? -1 : 1));
  return createHash('sha256').update(JSON.stringify(fields)).digest('hex');
}

/**
 * Parses a run's key that was stored as JSON. Returns undefined if `value` is not a key of this
 * version.
 */
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

/**
 * The first difference between an earlier run and this run. `was` describes the value of the
 * earlier run, and `is` the value of this run, such as `seed 1`. In messages, the word "has" comes
 * before `was` and before `is`.
 */
export interface Difference {
  readonly was: string;
  readonly is: string;
  /** Flag that gives this run the value of the earlier run; undefined if there is no such flag. */
  readonly flag?: string;
}

/**
 * Returns the first difference between two keys of runs; undefined if they do not differ. Compares
 * only the fields that both keys have.
 */
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

/**
 * For each field of a run's key, a function that describes the field's value in messages. {@link
 * differenceBetween} compares the fields in the order of these entries.
 */
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
  ratesDigest: (it) => `learning rates with digest ${short(it)}`,
};

/**
 * For each field of a run's key that a flag can set, a function that returns the flag for a value.
 */
const flags: { readonly [K in keyof RunKey]?: (value: RunKey[K]) => string } = {
  topology: (it) =>
    isStandardGrid(parseTopology(it)) ? `--tpus ${tpusOf(it)}` : `--topology ${it}`,
  model: (it) => `--model ${it}`,
  globalBatch: (it) => `--global-batch ${it}`,
  seed: (it) => `--seed ${it}`,
  precision: (it) => `--precision ${it}`,
  momentum: (it) => `--momentum ${shortest(it)}`,
  startDigest: (it) =>
    it === null ? 'no --start-from' : 'the --start-from of the run that saved it',
};

/** Returns the first 12 digits of a digest, which are enough to tell two digests apart. */
export function short(digest: string): string {
  return digest.slice(0, 12);
}

/** Returns the shortest decimal number that rounds to the f32 `value`. */
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
