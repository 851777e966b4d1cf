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
import type { LogLevel } from '../observe/log.ts';
import { checkOutputs, type InputFile } from './outputs.ts';
import { sourceOfFile } from './settings/file.ts';
import { mergeSettings, type Settings } from './settings/merge.ts';
import { flagOf, type Mode, type SettingKey, type SettingValues } from './settings/schema.ts';
import { askedSize, defaultTopology } from './settings/size.ts';
import { type RawOptions, sourceOfFlags } from './settings/source.ts';

export type { RawOptions };

/** Options of a command that trains: the run itself, and the destinations of its output. */
export interface TrainOptions {
  readonly config: TrainConfig;
  readonly log: string | undefined;
  /** Level of the lines in the file of `--log`. */
  readonly logLevel: LogLevel;
  readonly report: string | undefined;
  /** Folder to which the run is recorded. */
  readonly run: string | undefined;
  readonly json: boolean;
  readonly print: string | undefined;
  readonly relaxedSimd: boolean;
  readonly checkpoint: CheckpointOptions | undefined;
}

export interface CheckpointOptions {
  readonly directory: string;
  /** Number of steps from one checkpoint to the next. */
  readonly every: number;
  /** Number of checkpoints of the run to keep. The newest are kept, older ones are deleted. */
  readonly keep: number;
  readonly resume: boolean;
}

/**
 * Returns the options of a command, from its flags and from the file that `--config` names. A flag
 * overrides the same setting in the file.
 *
 * @throws PodError with one line for the first wrong setting.
 */
export function trainOptions(flags: RawOptions, mode: Mode = 'train'): TrainOptions {
  const { config } = flags;
  const inputs = config === undefined ? [] : [{ origin: '--config', path: String(config) }];
  return optionsOf(settingsOf(flags, mode), defaultTopology, inputs);
}

/**
 * Returns the settings of a command, merged from its flags and from the file that `--config` names.
 * A flag overrides the same setting in the file.
 */
export function settingsOf({ config, ...flags }: RawOptions, mode: Mode): Settings {
  const file = config === undefined ? [] : [sourceOfFile(String(config))];
  return mergeSettings(mode, [...file, sourceOfFlags(flags)]);
}

/**
 * Converts settings to options. `missing` is the grid of Cloud TPUs for settings that name no size.
 * `inputs` are files that the run reads; no output may replace one of them.
 *
 * @throws PodError naming settings that cannot be combined, or an output that is refused.
 */
export function optionsOf(
  settings: Settings,
  missing: Topology = defaultTopology,
  inputs: readonly InputFile[] = [],
): TrainOptions {
  refuseBesidePrint(settings);
  refuseAlone(settings, ['logLevel'], 'log', 'FILE');
  checkOutputs(settings, inputs);
  return {
    config: trainConfig(settings, askedSize(settings)?.topology ?? missing),
    log: settings.get('log'),
    logLevel: needed(settings, 'logLevel'),
    report: settings.get('report'),
    run: settings.get('run'),
    json: needed(settings, 'json'),
    print: settings.get('print'),
    relaxedSimd: needed(settings, 'relaxedSimd'),
    checkpoint: checkpointOptions(settings),
  };
}

/**
 * Refuses `--print` together with a setting of an output or of checkpoints. With `--print` nothing
 * is trained, so no output and no checkpoint would be written.
 */
function refuseBesidePrint(settings: Settings): void {
  const print = settings.ask('print');
  if (print === undefined) return;
  const of = ['log', 'report', 'run', 'json', 'checkpoint', 'every', 'keep', 'resume'] as const;
  const other = of.find((key) => settings.ask(key));
  if (other === undefined) return;
  const message = `${settings.origin(other)}: not possible with ${print.origin}, which trains nothing; leave one of the two out`;
  throw new PodError('bad-flag', message);
}

/**
 * Refuses every setting in `keys` if the setting `of` is not given. Without `of`, the settings in
 * `keys` have no effect.
 */
function refuseAlone(
  settings: Settings,
  keys: readonly SettingKey[],
  of: SettingKey,
  argument: string,
): void {
  const alone = keys.find((key) => settings.ask(key));
  if (alone === undefined || settings.ask(of) !== undefined) return;
  const expected = `expected ${flagOf(of)} ${argument} too, found none`;
  throw new PodError('bad-flag', `${settings.origin(alone)}: ${expected}`);
}

function checkpointOptions(settings: Settings): CheckpointOptions | undefined {
  const directory = settings.get('checkpoint');
  if (directory !== undefined) {
    const [every, keep] = [needed(settings, 'every'), needed(settings, 'keep')];
    return { directory, every, keep, resume: needed(settings, 'resume') };
  }
  refuseAlone(settings, ['every', 'keep', 'resume'], 'checkpoint', 'DIR');
  return undefined;
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
    remat: needed(settings, 'remat'),
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

/**
 * Default number of images in a step, before it is rounded up to a multiple of the number of cores.
 */
const defaultBatch = 256;

/**
 * Default length of a run, in images. It is enough to train the default network on the default
 * data, in less than a minute.
 */
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

/**
 * Refuses a run with too many steps. Checks only runs on the data set `digits`, because only its
 * size is known without reading files. The length of other runs is checked when their files are
 * read.
 */
function checkLength(config: TrainConfig): void {
  const form = parseDataset(config.data);
  if (form?.kind !== 'digits') return;
  totalSteps(config, openDataset(config.data, config.seed).train.size);
}

/** Returns the value of a setting that has a default and therefore always has a value. */
function needed<K extends SettingKey>(settings: Settings, key: K): SettingValues[K] {
  const value = settings.get(key);
  assert(value !== undefined, `${key} has no value`);
  return value;
}
