import { type Remat, rematPolicies } from '../../compiler/compile.ts';
import { datasetForms } from '../../data/open.ts';
import { type ScheduleName, scheduleNames, stepsMax } from '../../experiment/config.ts';
import type { RunKey } from '../../experiment/same-run.ts';
import { type NetworkName, networkNames } from '../../model/networks.ts';
import { type LogLevel, logLevels } from '../../observe/log.ts';
import { type RecoveryPolicy, recoveryPolicies } from '../../pod/master/options.ts';
import { type Check, dataset, flag, oneOf, path, real, text, topology, whole } from './checks.ts';

/** All settings with the types of their values. The names are the keys of a `--config` file. */
export interface SettingValues {
  readonly tpus: number;
  readonly topology: string;
  readonly model: NetworkName;
  readonly data: string;
  readonly globalBatch: number;
  readonly steps: number;
  readonly epochs: number;
  readonly learningRate: number;
  readonly schedule: ScheduleName;
  readonly warmUp: number;
  readonly momentum: number;
  readonly seed: number;
  readonly precision: 'bf16' | 'f32';
  readonly mxu: 'fast' | 'systolic';
  readonly remat: Remat;
  readonly recovery: RecoveryPolicy;
  readonly evaluate: number;
  readonly relaxedSimd: boolean;
  readonly startFrom: string;
  readonly checkpoint: string;
  readonly every: number;
  readonly keep: number;
  readonly resume: boolean;
  readonly log: string;
  readonly logLevel: LogLevel;
  readonly report: string;
  readonly run: string;
  readonly json: boolean;
  readonly print: string;
}

/** Name of a setting, which is also its key in a `--config` file. */
export type SettingKey = keyof SettingValues;

/**
 * All modes. A mode says which program uses the settings:
 *
 * - `train`, `compile`, `up`, `devices`: the command of `pod` with this name;
 * - `serve`: a pod that takes jobs (`pod up --serve`, or a master with `POD_MODE=serve`);
 * - `master`: a master that trains the run of `POD_ARGS`;
 * - `job`: a job that is sent to a pod that takes jobs.
 */
export const modes = ['train', 'compile', 'up', 'serve', 'master', 'job', 'devices'] as const;
/** The program that uses the settings: a command, a master or a job. */
export type Mode = (typeof modes)[number];

/**
 * For each mode: true if the mode takes the setting; otherwise the reason why the mode refuses it.
 * The reason is the end of an error message.
 */
export type Places = Readonly<Record<Mode, true | string>>;

/** Definition of a setting. No other place in the code defines its flag, check, default or use. */
export interface Setting<T> {
  readonly check: Check<T>;
  /** The flag with its argument in Commander's notation, such as `--steps <n>`. */
  readonly flag: string;
  readonly help: string;
  /** Default, used if no source gives a value. The help text of the flag ends with the default. */
  readonly missing: Missing<T>;
  /**
   * Fields of a run's key that this setting can change; empty if there are none. The key (`RunKey`)
   * contains everything that the bits of the weights depend on.
   */
  readonly bits: readonly (keyof RunKey)[];
  /**
   * Group of settings that express the same quantity in different ways, such as `tpus` and
   * `topology`. `own` means that no other setting expresses the quantity.
   */
  readonly group: 'size' | 'length' | 'own';
  /** Part of the value that is a path: no part, the whole value, or the DIR of `mnist:DIR`. */
  readonly path: 'none' | 'whole' | 'dataset';
  /**
   * True if a `--config` file may contain the setting; otherwise the reason why not. The reason is
   * the end of an error message.
   */
  readonly inFile: true | string;
  readonly places: Places;
}

/**
 * Default of a setting. It is either a fixed value, or only a text for the help, such as `all`. The
 * text is for a setting that has no fixed default.
 */
export type Missing<T> =
  /**
   * A fixed default, `value`. If `inClusters` is present, it replaces `value` in the modes `up`,
   * `serve`, `master` and `job`, whose runs must survive losses of Cloud TPUs. If `text` is
   * present, help texts show it instead of the value.
   */
  | { readonly value: T; readonly inClusters?: T; readonly text?: string }
  | { readonly text: string };

const everywhere = { train: true, compile: true, up: true, master: true } as const;
const ofJobs =
  'a pod that takes jobs has no run of its own; give this setting to pod submit, after --';
const ofSlice = 'pod devices shows a slice, not a run';

/**
 * Value of `places` for a setting of the training, such as `model`: all modes take the setting
 * except `serve` and `devices`.
 */
const ofRun: Places = { ...everywhere, job: true, serve: ofJobs, devices: ofSlice };
/**
 * Value of `places` for a setting of the pod's size, such as `tpus`: all modes take the setting.
 */
const ofSize: Places = { ...everywhere, job: true, serve: true, devices: true };
/**
 * Value of `places` for a setting of a run's files, such as `checkpoint`: only the modes `train`,
 * `up` and `master` take the setting. The mode `job` refuses the setting, because the pod chooses
 * the folder of a job's files.
 */
const ofOwnFiles: Places = {
  ...ofRun,
  compile: 'pod compile trains nothing',
  job: 'the pod keeps the log, the report and the checkpoints of a job itself; leave this setting out',
};
/**
 * Value of `places` for a setting of the output of `pod train`, such as `log`: only the mode
 * `train` takes the setting.
 */
const ofOutput: Places = {
  ...ofOwnFiles,
  up: 'the pod keeps its log itself; pod logs prints it',
  master:
    'a master writes its log to standard output, with the report as the last line; leave this setting out',
};

const common = { group: 'own', path: 'none', inFile: true, places: ofRun } as const;

/** Table of settings. Flags, help texts, keys of files, checks and defaults are derived from it. */
export const schema: { readonly [K in SettingKey]: Setting<SettingValues[K]> } = {
  tpus: {
    ...{ ...common, group: 'size', places: ofSize, bits: ['topology'] },
    check: whole(1, 64),
    flag: '--tpus <n>',
    help: 'number of Cloud TPUs: 1, 2, 4, 8, 16, 32 or 64',
    missing: { text: '8' },
  },
  topology: {
    ...{ ...common, group: 'size', places: ofSize, bits: ['topology'] },
    check: topology,
    flag: '--topology <CxR>',
    help: 'grid of Cloud TPUs, columns x rows up to 8x8, instead of --tpus',
    missing: { text: '' },
  },
  model: {
    ...{ ...common, bits: ['model'] },
    check: oneOf(networkNames),
    flag: '--model <name>',
    help: `network: ${networkNames.join(', ')}`,
    missing: { value: 'cnn' },
  },
  data: {
    ...{ ...common, path: 'dataset', bits: ['trainDigest'] },
    check: dataset,
    flag: '--data <what>',
    help: `data set: ${datasetForms.join(', ')}`,
    missing: { value: 'digits' },
  },
  globalBatch: {
    // The global batch also changes `ratesDigest`, the digest of the learning rates: the schedule
    // `linear-scaling` scales the learning rate with the global batch.
    ...{ ...common, bits: ['globalBatch', 'ratesDigest'] },
    check: whole(1, 1 << 20),
    flag: '--global-batch <n>',
    help: 'images in a step, over all cores',
    missing: { text: '256, or the number of cores if that is larger' },
  },
  steps: {
    ...{ ...common, group: 'length', bits: ['steps', 'ratesDigest'] },
    check: whole(1, stepsMax),
    flag: '--steps <n>',
    help: 'steps to train',
    missing: { text: 'enough for about 25,000 images' },
  },
  epochs: {
    ...{ ...common, group: 'length', bits: ['steps', 'ratesDigest'] },
    check: real(1e-6, 100_000),
    flag: '--epochs <n>',
    help: 'passes over the training set, instead of --steps',
    missing: { text: '' },
  },
  learningRate: {
    ...{ ...common, bits: ['ratesDigest'] },
    check: real(0, 1e6),
    flag: '--learning-rate <x>',
    help: 'peak learning rate',
    missing: { value: 0.03 },
  },
  schedule: {
    ...{ ...common, bits: ['ratesDigest'] },
    check: oneOf(scheduleNames),
    flag: '--schedule <name>',
    help: `learning rate over time: ${scheduleNames.join(', ')}`,
    missing: { value: 'cosine' },
  },
  warmUp: {
    ...{ ...common, bits: ['ratesDigest'] },
    check: real(0, 1),
    flag: '--warm-up <share>',
    help: 'share of the steps in which the learning rate rises, 0 to 1',
    missing: { value: 0.1 },
  },
  momentum: {
    ...{ ...common, bits: ['momentum'] },
    check: real(0, 1),
    flag: '--momentum <x>',
    help: 'decay factor of the momentum, 0 to 1',
    missing: { value: 0.9 },
  },
  seed: {
    // The seed also changes `trainDigest`, the digest of the training set: the images of the data
    // set `digits` are random and are made from the seed.
    ...{ ...common, bits: ['seed', 'trainDigest'] },
    check: whole(0, 0xffff_ffff),
    flag: '--seed <n>',
    help: 'seed of the initial weights, the digits and the order of the images',
    missing: { value: 0 },
  },
  precision: {
    ...{ ...common, bits: ['precision'] },
    check: oneOf(['bf16', 'f32']),
    flag: '--precision <type>',
    help: 'type of the numbers that the MXU multiplies: bf16 or f32',
    missing: { value: 'bf16' },
  },
  mxu: {
    ...{ ...common, bits: [] },
    check: oneOf(['fast', 'systolic']),
    flag: '--mxu <fidelity>',
    help: 'emulation of the MXU: fast or systolic (slower); both give the same bits',
    missing: { value: 'fast' },
  },
  remat: {
    ...{ ...common, bits: [] },
    check: oneOf(rematPolicies),
    flag: '--remat <policy>',
    help: 'compute values a second time instead of keeping them in HBM: auto (only if the program would not fit), always or never',
    missing: { value: 'auto' },
  },
  recovery: {
    ...{ ...common, bits: [] },
    check: oneOf(recoveryPolicies),
    flag: '--recovery <policy>',
    help: `what to do if a Cloud TPU is lost: ${recoveryPolicies.join(', ')}; with none the run ends`,
    missing: { value: 'none', inClusters: 'replace' },
  },
  evaluate: {
    ...{ ...common, bits: [] },
    check: whole(1),
    flag: '--evaluate <n>',
    help: 'number of held-out images to evaluate on, rounded up to whole batches',
    missing: { text: 'all' },
  },
  relaxedSimd: {
    ...{ ...common, bits: [] },
    check: flag,
    flag: '--no-relaxed-simd',
    help: 'do not use fused multiply-add: slower, with the same bits',
    missing: { value: true, text: '' },
  },
  startFrom: {
    ...{ ...common, path: 'whole', bits: ['startDigest'] },
    check: path,
    flag: '--start-from <checkpoint>',
    help: 'begin a new run with the weights of a checkpoint (a folder step-…, or the newest good one in a folder of checkpoints) and a fresh optimizer state',
    missing: { text: '' },
    places: { ...ofRun, compile: ofOwnFiles.compile },
  },
  checkpoint: {
    ...{ ...common, path: 'whole', places: ofOwnFiles, bits: [] },
    check: path,
    flag: '--checkpoint <dir>',
    help: 'save checkpoints to this directory',
    missing: { text: '' },
  },
  every: {
    ...{ ...common, places: { ...ofOwnFiles, job: true }, bits: [] },
    check: whole(1),
    flag: '--every <n>',
    help: 'steps from one checkpoint to the next',
    missing: { value: 100 },
  },
  keep: {
    ...{ ...common, places: { ...ofOwnFiles, job: true }, bits: [] },
    check: whole(1),
    flag: '--keep <n>',
    help: 'number of checkpoints to keep, the newest ones',
    missing: { value: 3 },
  },
  resume: {
    ...{ ...common, places: ofOwnFiles, bits: [] },
    check: flag,
    flag: '--resume',
    help: 'continue the run of the newest good checkpoint, if there is one',
    missing: { value: false, text: '' },
  },
  log: {
    ...{ ...common, path: 'whole', places: ofOutput, bits: [] },
    check: text,
    flag: '--log <file>',
    help: 'write each event as one line of JSON to this file',
    missing: { text: '' },
  },
  logLevel: {
    ...{ ...common, bits: [] },
    check: oneOf(logLevels),
    flag: '--log-level <level>',
    help: `least important lines of --log: ${logLevels.join(', ')}; debug adds the times of every Cloud TPU, and the summary is always written`,
    missing: { value: 'info' },
    places: {
      ...ofOutput,
      up: 'pod up takes this setting only as the flag --log-level',
      serve: 'the variable POD_LOG_LEVEL sets the level of all programs of a pod',
      master: 'the variable POD_LOG_LEVEL sets the level of all programs of a pod',
    },
  },
  report: {
    ...{ ...common, path: 'whole', places: ofOwnFiles, bits: [] },
    check: text,
    flag: '--report <file>',
    help: 'write the result as JSON to this file',
    missing: { text: '' },
  },
  run: {
    ...{ ...common, path: 'whole', places: ofOwnFiles, bits: [] },
    check: path,
    flag: '--run <dir>',
    help: 'record the run to this folder: its events, its settings and its result',
    missing: { text: '' },
  },
  json: {
    ...{ ...common, places: ofOutput, bits: [] },
    check: flag,
    flag: '--json',
    help: 'print the result as JSON to standard output, progress to standard error',
    missing: { value: false, text: '' },
  },
  print: {
    ...{ ...common, bits: [], inFile: 'not possible in a file; use the flag --print' },
    check: text,
    flag: '--print <pass>',
    help: 'print the training step after this pass of the compiler (its name or number, hlo or executable) and stop',
    missing: { text: '' },
    places: {
      ...ofOutput,
      compile: true,
      up: 'only pod train and pod compile print a pass of the compiler; use pod compile',
      master: 'only pod train and pod compile print a pass of the compiler; use pod compile',
      job: 'only pod train and pod compile print a pass of the compiler; use pod compile',
    },
  },
};

/** All settings, in the order of help texts. */
export const settingKeys: readonly SettingKey[] = Object.keys(schema) as SettingKey[];

/** True if a key of a `--config` file is the name of a setting. */
export function isSettingKey(key: string): key is SettingKey {
  return Object.hasOwn(schema, key);
}

/** The long name of a setting's flag: `--global-batch`, `--no-relaxed-simd`. */
export function flagOf(key: SettingKey): string {
  return schema[key].flag.split(' ')[0] ?? '';
}

/**
 * Returns the default of a setting; undefined if the default follows from other settings or does
 * not exist.
 */
export function missingValue<K extends SettingKey>(
  key: K,
  mode: Mode,
): SettingValues[K] | undefined {
  const missing: Missing<SettingValues[K]> = schema[key].missing;
  if (!('value' in missing)) return undefined;
  return isCluster(mode) ? (missing.inClusters ?? missing.value) : missing.value;
}

/** Returns the default as a text for the help; empty if the help names no default. */
export function missingText(key: SettingKey, mode: Mode): string {
  const { text: words } = schema[key].missing;
  return words ?? String(missingValue(key, mode));
}

/** True for the modes whose runs must survive losses of Cloud TPUs. */
function isCluster(mode: Mode): boolean {
  return mode === 'up' || mode === 'master' || mode === 'job' || mode === 'serve';
}
