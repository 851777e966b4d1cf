import { existsSync, readFileSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { parse as parseYaml } from 'yaml';
import { z } from 'zod';
import {
  cloudTpus,
  replicas,
  replicasPerCloudTpu,
  scheduleNames,
  type TrainConfig,
} from '../experiment/config.ts';
import { formatTopology, parseTopology, standardGrid } from '../fabric/torus.ts';
import { networkNames } from '../model/networks.ts';
import { PodError } from '../numerics/error.ts';
import { recoveryPolicies } from '../pod/master.ts';

/** What `pod train` was asked: the run itself, and where its output goes. */
export interface TrainOptions {
  readonly config: TrainConfig;
  readonly log: string | undefined;
  readonly report: string | undefined;
  readonly json: boolean;
  readonly print: string | undefined;
  readonly relaxedSimd: boolean;
  readonly checkpoint: CheckpointOptions | undefined;
}

export interface CheckpointOptions {
  readonly directory: string;
  /** Steps from one to the next. */
  readonly every: number;
  /** How many are left. */
  readonly keep: number;
  readonly resume: boolean;
}

/** Values as they come from flags (strings) or from a YAML file (whatever YAML makes of them). */
export type RawOptions = Readonly<Record<string, unknown>>;

/** Where a value came from, for messages. */
type Origin = (key: string) => string;

const whole = (min: number, max: number = Number.MAX_SAFE_INTEGER): z.ZodType<number> =>
  z.preprocess(
    numeric,
    z
      .number({ error: 'expected a whole number' })
      .int('expected a whole number')
      .min(min, `expected at least ${min}`)
      .max(max, `expected at most ${max}`),
  );
const real = (min: number, max: number): z.ZodType<number> =>
  z.preprocess(
    numeric,
    z
      .number({ error: 'expected a number' })
      .min(min, `expected at least ${min}`)
      .max(max, `expected at most ${max}`),
  );
const oneOf = <const T extends string>(names: readonly T[]): z.ZodType<T> =>
  z.enum(names as [T, ...T[]], { error: `expected one of ${names.join(', ')}` });
const text: z.ZodType<string> = z.string({ error: 'expected text' }).min(1, 'expected some text');
const flag: z.ZodType<boolean> = z.boolean({ error: 'expected true or false' });

/** Each setting with what it accepts. Keys are the flags' names in camelCase, and YAML's keys. */
const settings = {
  tpus: whole(1, 64).optional(),
  topology: text.optional(),
  model: oneOf(networkNames).default('cnn'),
  data: text.default('digits'),
  globalBatch: whole(1, 1 << 20).optional(),
  steps: whole(1, 10_000_000).optional(),
  epochs: real(1e-6, 100_000).optional(),
  learningRate: real(0, 1e6).optional(),
  schedule: oneOf(scheduleNames).default('cosine'),
  warmUp: real(0, 1).default(0.1),
  momentum: real(0, 1).default(0.9),
  seed: whole(0, 0xffff_ffff).default(0),
  precision: oneOf(['bf16', 'f32']).default('bf16'),
  mxu: oneOf(['fast', 'systolic']).default('fast'),
  recovery: oneOf(recoveryPolicies).default('none'),
  evaluate: whole(1).optional(),
  log: text.optional(),
  report: text.optional(),
  json: flag.default(false),
  print: text.optional(),
  relaxedSimd: flag.default(true),
  checkpoint: text.optional(),
  every: whole(1).optional(),
  keep: whole(1).optional(),
  resume: flag.default(false),
};
const schema = z.strictObject(settings);
type Settings = z.infer<typeof schema>;

/**
 * Flags win over the file, and both over `missing`; every wrong value is one line and exit code 2.
 */
export function trainOptions(flags: RawOptions, missing: RawOptions = {}): TrainOptions {
  const { config: file, ...given } = flags;
  const fromFile = file === undefined ? {} : readConfig(String(file));
  const origin: Origin = (key) =>
    key in given ? `--${kebab(key)}` : `${key} in ${String(file ?? 'the configuration')}`;
  const settings = check({ ...missing, ...fromFile, ...given }, origin);
  for (const key of ['log', 'report'] as const) checkWritable(settings[key], origin(key));
  return {
    config: trainConfig(settings, origin),
    log: settings.log,
    report: settings.report,
    json: settings.json,
    print: settings.print,
    relaxedSimd: settings.relaxedSimd,
    checkpoint: checkpointOptions(settings, origin),
  };
}

function checkpointOptions(settings: Settings, origin: Origin): CheckpointOptions | undefined {
  const { checkpoint: directory, every, keep, resume } = settings;
  if (directory !== undefined) {
    return { directory, every: every ?? defaultEvery, keep: keep ?? defaultKeep, resume };
  }
  const alone = (['every', 'keep', 'resume'] as const).find((key) => settings[key]);
  if (alone === undefined) return undefined;
  throw new PodError('bad-flag', `${origin(alone)}: expected a --checkpoint directory with it`);
}

const defaultEvery = 100;
const defaultKeep = 3;

function trainConfig(settings: Settings, origin: Origin): TrainConfig {
  const topology = topologyOf(settings, origin);
  const count = replicas({ topology });
  const globalBatch = settings.globalBatch ?? Math.max(256, count);
  if (globalBatch % count !== 0) {
    const near = Math.max(1, Math.round(globalBatch / count)) * count;
    throw new PodError(
      'bad-flag',
      `${origin('globalBatch')}: expected a multiple of ${count} (${cloudTpus({ topology })} Cloud TPUs × ${replicasPerCloudTpu} cores), found ${globalBatch}; try ${near}`,
    );
  }
  if (settings.steps !== undefined && settings.epochs !== undefined) {
    throw new PodError(
      'bad-flag',
      `${origin('steps')} and ${origin('epochs')}: expected one of the two, found both; leave one out`,
    );
  }
  return {
    topology,
    model: settings.model,
    data: settings.data,
    globalBatch,
    length:
      settings.epochs !== undefined
        ? { unit: 'epochs', epochs: settings.epochs }
        : { unit: 'steps', steps: settings.steps ?? defaultSteps(globalBatch) },
    learningRate: settings.learningRate ?? defaultLearningRate,
    schedule: settings.schedule,
    warmUp: settings.warmUp,
    momentum: settings.momentum,
    seed: settings.seed,
    precision: settings.precision,
    mxu: settings.mxu,
    recovery: settings.recovery,
    evaluate: settings.evaluate,
  };
}

const defaultLearningRate = 0.03;

/** About 25,000 images: enough for the default network and data, in less than a minute. */
function defaultSteps(globalBatch: number): number {
  return Math.max(1, Math.round(25_600 / globalBatch));
}

function topologyOf({ tpus, topology }: Settings, origin: Origin): TrainConfig['topology'] {
  if (topology === undefined) return standardGrid(tpus ?? 8);
  const grid = parseTopology(topology);
  if (tpus !== undefined && tpus !== cloudTpus({ topology: grid })) {
    throw new PodError(
      'bad-flag',
      `${origin('tpus')}: expected ${cloudTpus({ topology: grid })}, the Cloud TPUs of ${origin('topology')} ${formatTopology(grid)}, found ${tpus}; leave one of the two out`,
    );
  }
  return grid;
}

function check(values: RawOptions, origin: Origin): Settings {
  const result = schema.safeParse(values);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  if (issue?.code === 'unrecognized_keys') {
    const key = issue.keys[0] ?? '';
    throw new PodError(
      'bad-config',
      `${origin(key)}: there is no such setting; expected one of ${Object.keys(settings).join(', ')}`,
    );
  }
  const key = String(issue?.path[0] ?? '');
  throw new PodError('bad-flag', `${origin(key)}: ${issue?.message}, found ${shown(values[key])}`);
}

function readConfig(file: string): RawOptions {
  if (!existsSync(file) || !statSync(file).isFile()) {
    throw new PodError(
      'bad-config',
      `--config ${file}: expected a YAML file, found ${existsSync(file) ? 'something else' : 'nothing'} there`,
    );
  }
  let value: unknown;
  try {
    value = parseYaml(readFileSync(file, 'utf8'));
  } catch (cause) {
    const [line] = String((cause as Error).message).split('\n');
    throw new PodError('bad-config', `--config ${file}: expected YAML, found: ${line}`, cause);
  }
  if (value === null || typeof value !== 'object' || Array.isArray(value)) {
    throw new PodError(
      'bad-config',
      `--config ${file}: expected settings such as "model: cnn", one a line, found ${shown(value)}`,
    );
  }
  return Object.fromEntries(Object.entries(value).map(([key, it]) => [camel(key), it]));
}

function checkWritable(file: string | undefined, origin: string): void {
  if (file === undefined) return;
  const folder = dirname(resolve(file));
  if (!existsSync(folder) || !statSync(folder).isDirectory()) {
    throw new PodError(
      'bad-flag',
      `${origin}: expected a file in an existing folder, found ${file}`,
    );
  }
  if (existsSync(file) && statSync(file).isDirectory()) {
    throw new PodError('bad-flag', `${origin}: expected a file, found the folder ${file}`);
  }
}

/** Flags are text: numbers in it are read as numbers; anything else is left to be refused. */
function numeric(value: unknown): unknown {
  if (typeof value !== 'string' || value.trim() === '') return value;
  const number = Number(value);
  return Number.isFinite(number) ? number : value;
}

function kebab(key: string): string {
  return key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

function camel(key: string): string {
  return key.replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

/** A value as a message can show it: on one line, not too long. */
function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 60 ? `${text.slice(0, 57)}…` : text;
}
