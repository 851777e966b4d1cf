import { openDataset, parseDataset } from '../data/open.ts';
import {
  cloudTpus,
  replicas,
  replicasPerCloudTpu,
  type TrainConfig,
  totalSteps,
} from '../experiment/config.ts';
import type { Topology } from '../fabric/torus.ts';
import { assert } from '../numerics/assert.ts';
import { PodError } from '../numerics/error.ts';
import { checkOutputs, type InputFile } from './outputs.ts';
import { sourceOfFile } from './settings/file.ts';
import { mergeSettings, type Settings } from './settings/merge.ts';
import { flagOf, type Mode, type SettingKey, type SettingValues } from './settings/schema.ts';
import { askedSize, defaultTopology } from './settings/size.ts';
import { type RawOptions, sourceOfFlags } from './settings/source.ts';

export type { RawOptions };

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

/**
 * The options of a command from its flags, and from the file that they name with `config`. Flags win
 * over the file.
 *
 * @throws PodError with one line for the first thing that is wrong.
 */
export function trainOptions(flags: RawOptions, mode: Mode = 'train'): TrainOptions {
  const { config } = flags;
  const inputs = config === undefined ? [] : [{ origin: '--config', path: String(config) }];
  return optionsOf(settingsOf(flags, mode), defaultTopology, inputs);
}

/** The settings of a command from its flags, and from the file that they name with `config`. */
export function settingsOf({ config, ...flags }: RawOptions, mode: Mode): Settings {
  const file = config === undefined ? [] : [sourceOfFile(String(config))];
  return mergeSettings(mode, [...file, sourceOfFlags(flags)]);
}

/**
 * The options that settings ask for. `missing` is the slice when they say none; eight Cloud TPUs
 * unless given. `inputs` are files that no output may replace.
 *
 * @throws PodError naming settings that do not go together.
 */
export function optionsOf(
  settings: Settings,
  missing: Topology = defaultTopology,
  inputs: readonly InputFile[] = [],
): TrainOptions {
  refuseBesidePrint(settings);
  checkOutputs(settings, inputs);
  return {
    config: trainConfig(settings, askedSize(settings)?.topology ?? missing),
    log: settings.get('log'),
    report: settings.get('report'),
    json: needed(settings, 'json'),
    print: settings.get('print'),
    relaxedSimd: needed(settings, 'relaxedSimd'),
    checkpoint: checkpointOptions(settings),
  };
}

/** A program that is printed is not run: nothing would be written, saved or continued. */
function refuseBesidePrint(settings: Settings): void {
  const print = settings.ask('print');
  if (print === undefined) return;
  const of = ['log', 'report', 'json', 'checkpoint', 'every', 'keep', 'resume'] as const;
  const other = of.find((key) => settings.ask(key));
  if (other === undefined) return;
  const message = `${settings.origin(other)}: expected none beside ${print.origin}, which runs nothing`;
  throw new PodError('bad-flag', message);
}

function checkpointOptions(settings: Settings): CheckpointOptions | undefined {
  const directory = settings.get('checkpoint');
  if (directory !== undefined) {
    const [every, keep] = [needed(settings, 'every'), needed(settings, 'keep')];
    return { directory, every, keep, resume: needed(settings, 'resume') };
  }
  const alone = (['every', 'keep', 'resume'] as const).find((key) => settings.ask(key));
  if (alone === undefined) return undefined;
  const expected = `expected a ${flagOf('checkpoint')} directory with it`;
  throw new PodError('bad-flag', `${settings.origin(alone)}: ${expected}`);
}

function trainConfig(settings: Settings, topology: Topology): TrainConfig {
  const globalBatch = globalBatchOf(settings, topology);
  const startFrom = settings.get('startFrom');
  const config: TrainConfig = {
    topology,
    model: needed(settings, 'model'),
    data: needed(settings, 'data'),
    globalBatch,
    length: lengthOf(settings, globalBatch),
    learningRate: needed(settings, 'learningRate'),
    schedule: needed(settings, 'schedule'),
    warmUp: needed(settings, 'warmUp'),
    momentum: needed(settings, 'momentum'),
    seed: needed(settings, 'seed'),
    precision: needed(settings, 'precision'),
    mxu: needed(settings, 'mxu'),
    recovery: needed(settings, 'recovery'),
    evaluate: settings.get('evaluate'),
    ...(startFrom !== undefined && { startFrom }),
  };
  checkLength(config);
  return config;
}

function globalBatchOf(settings: Settings, topology: Topology): number {
  const count = replicas({ topology });
  const given = settings.ask('globalBatch');
  if (given === undefined) return Math.ceil(defaultBatch / count) * count;
  const { value, origin } = given;
  if (value % count === 0) return value;
  const near = Math.max(1, Math.round(value / count)) * count;
  throw new PodError(
    'bad-flag',
    `${origin}: expected a multiple of ${count} (${cloudTpus({ topology })} Cloud TPUs × ${replicasPerCloudTpu} cores), found ${value}; try ${near}`,
  );
}

/** Images a step when nobody says: as many, or the next number that all cores share evenly. */
const defaultBatch = 256;

/** Images of a run when nobody says: enough for the default network and data, in less than a minute. */
const defaultImages = 25_600;

function lengthOf(settings: Settings, globalBatch: number): TrainConfig['length'] {
  const steps = settings.ask('steps');
  const epochs = settings.ask('epochs');
  if (steps !== undefined && epochs !== undefined) {
    throw new PodError(
      'bad-flag',
      `${steps.origin} and ${epochs.origin}: expected one of the two, found both; leave one out`,
    );
  }
  if (epochs !== undefined) return { unit: 'epochs', epochs: epochs.value };
  const defaultSteps = Math.max(1, Math.round(defaultImages / globalBatch));
  return { unit: 'steps', steps: steps?.value ?? defaultSteps };
}

/** Digits have a size that is known before they are drawn: what is too long is refused at once. */
function checkLength(config: TrainConfig): void {
  const form = parseDataset(config.data);
  if (form?.kind !== 'digits') return;
  totalSteps(config, openDataset(config.data, config.seed).train.size);
}

/** The value of a setting that has one when nobody gives it. */
function needed<K extends SettingKey>(settings: Settings, key: K): SettingValues[K] {
  const value = settings.get(key);
  assert(value !== undefined, `${key} has no value`);
  return value;
}
