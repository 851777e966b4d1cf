import { datasetForms } from '../../data/open.ts';
import { type ScheduleName, scheduleNames, stepsMax } from '../../experiment/config.ts';
import type { RunKey } from '../../experiment/same-run.ts';
import { type NetworkName, networkNames } from '../../model/networks.ts';
import { type RecoveryPolicy, recoveryPolicies } from '../../pod/master.ts';
import { type Check, dataset, flag, oneOf, path, real, text, topology, whole } from './checks.ts';

/** Every setting with the type of its value. Names are the keys of a `--config` file. */
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
  readonly recovery: RecoveryPolicy;
  readonly evaluate: number;
  readonly relaxedSimd: boolean;
  readonly startFrom: string;
  readonly checkpoint: string;
  readonly every: number;
  readonly keep: number;
  readonly resume: boolean;
  readonly log: string;
  readonly report: string;
  readonly json: boolean;
  readonly print: string;
}

/** The name of a setting, as a key of a file. */
export type SettingKey = keyof SettingValues;

/**
 * Who reads settings. `up` is `pod up`, `serve` a pod that takes jobs (`pod up --serve`, or a master
 * with `POD_MODE=serve`), `master` one that trains its `POD_ARGS`, `job` what is sent to a pod that
 * takes jobs, and `devices` is `pod devices`.
 */
export const modes = ['train', 'compile', 'up', 'serve', 'master', 'job', 'devices'] as const;
/** What takes settings: a command, a master, or a job. */
export type Mode = (typeof modes)[number];

/** Whether a mode takes a setting; if not, the reason, which ends a sentence. */
export type Places = Readonly<Record<Mode, true | string>>;

/** All that is known of a setting. It stands here once. */
export interface Setting<T> {
  readonly check: Check<T>;
  /** The flag, with what it takes. */
  readonly flag: string;
  readonly help: string;
  /** The value when nobody gives one, or how it follows from others; the help text ends with it. */
  readonly missing: Missing<T>;
  /**
   * The parts of a run's key that it changes when all else is given: no bit of the weights depends on a
   * setting without any.
   */
  readonly bits: readonly (keyof RunKey)[];
  /** Settings of one group say the same thing in other words. */
  readonly group: 'size' | 'length' | 'own';
  /** What of its value is a path: nothing, all, or the DIR of `mnist:DIR`. */
  readonly path: 'none' | 'whole' | 'dataset';
  /** Whether it may stand in a file of settings. */
  readonly inFile: true | string;
  readonly places: Places;
}

/** What a setting is when nobody gives it. */
export type Missing<T> =
  /** `inClusters` where losses are expected and outlived. */
  | { readonly value: T; readonly inClusters?: T; readonly text?: string }
  | { readonly text: string };

const everywhere = { train: true, compile: true, up: true, master: true } as const;
const ofJobs = 'a pod that serves takes no run; give it to pod submit -- instead';
const ofSlice = 'pod devices shows a slice, not a run';

/** A setting of what is trained. */
const ofRun: Places = { ...everywhere, job: true, serve: ofJobs, devices: ofSlice };
/** A setting of the size of the pod. */
const ofSize: Places = { ...everywhere, job: true, serve: true, devices: true };
/** A setting of the files of a run, which a job has in a folder of its own. */
const ofOwnFiles: Places = {
  ...ofRun,
  compile: 'pod compile trains nothing',
  job: 'a job has a log, a report and checkpoints of its own',
};
/** A setting of the output of one command. */
const ofOutput: Places = {
  ...ofOwnFiles,
  up: 'the master of a pod logs to a file of the pod: pod logs',
  master: 'a master logs to its standard output, and its last line is the report',
};

const common = { group: 'own', path: 'none', inFile: true, places: ofRun } as const;

/** The table of settings. Flags, help, keys of files, checks and defaults are derived from it. */
export const schema: { readonly [K in SettingKey]: Setting<SettingValues[K]> } = {
  tpus: {
    ...{ ...common, group: 'size', places: ofSize, bits: ['topology'] },
    check: whole(1, 64),
    flag: '--tpus <n>',
    help: 'Cloud TPUs: 1, 2, 4, 8, 16, 32 or 64',
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
    help: datasetForms.join(', '),
    missing: { value: 'digits' },
  },
  globalBatch: {
    // Rates can scale with it.
    ...{ ...common, bits: ['globalBatch', 'ratesDigest'] },
    check: whole(1, 1 << 20),
    flag: '--global-batch <n>',
    help: 'images a step over all cores',
    missing: { text: '256, or one a core' },
  },
  steps: {
    ...{ ...common, group: 'length', bits: ['steps', 'ratesDigest'] },
    check: whole(1, stepsMax),
    flag: '--steps <n>',
    help: 'steps to train',
    missing: { text: 'about 25,000 images' },
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
    help: 'share of the run with a rising learning rate',
    missing: { value: 0.1 },
  },
  momentum: {
    ...{ ...common, bits: ['momentum'] },
    check: real(0, 1),
    flag: '--momentum <x>',
    help: 'decay of the momentum',
    missing: { value: 0.9 },
  },
  seed: {
    // Digits are drawn from it.
    ...{ ...common, bits: ['seed', 'trainDigest'] },
    check: whole(0, 0xffff_ffff),
    flag: '--seed <n>',
    help: 'of the initial weights, the digits and the order',
    missing: { value: 0 },
  },
  precision: {
    ...{ ...common, bits: ['precision'] },
    check: oneOf(['bf16', 'f32']),
    flag: '--precision <type>',
    help: 'what the MXU multiplies: bf16 or f32',
    missing: { value: 'bf16' },
  },
  mxu: {
    ...{ ...common, bits: [] },
    check: oneOf(['fast', 'systolic']),
    flag: '--mxu <fidelity>',
    help: 'fast or systolic: the same bits',
    missing: { value: 'fast' },
  },
  recovery: {
    ...{ ...common, bits: [] },
    check: oneOf(recoveryPolicies),
    flag: '--recovery <policy>',
    help: `when a Cloud TPU is lost: ${recoveryPolicies.join(', ')}; none ends the run`,
    missing: { value: 'none', inClusters: 'replace' },
  },
  evaluate: {
    ...{ ...common, bits: [] },
    check: whole(1),
    flag: '--evaluate <n>',
    help: 'held-out images to evaluate on, in whole batches',
    missing: { text: 'all' },
  },
  relaxedSimd: {
    ...{ ...common, bits: [] },
    check: flag,
    flag: '--no-relaxed-simd',
    help: 'do without fused multiply-add: the same bits',
    missing: { value: true, text: '' },
  },
  startFrom: {
    ...{ ...common, path: 'whole', bits: ['startDigest'] },
    check: path,
    flag: '--start-from <checkpoint>',
    help: 'begin a new run with the weights of a checkpoint (a step-… folder, or a folder of them: the newest good one) and a fresh optimizer state',
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
    help: 'checkpoints that are left, the newest ones',
    missing: { value: 3 },
  },
  resume: {
    ...{ ...common, places: ofOwnFiles, bits: [] },
    check: flag,
    flag: '--resume',
    help: 'go on with the run of the newest good checkpoint, if there is one',
    missing: { value: false, text: '' },
  },
  log: {
    ...{ ...common, path: 'whole', places: ofOutput, bits: [] },
    check: text,
    flag: '--log <file>',
    help: 'write one JSON line an event to this file',
    missing: { text: '' },
  },
  report: {
    ...{ ...common, path: 'whole', places: ofOwnFiles, bits: [] },
    check: text,
    flag: '--report <file>',
    help: 'write the result as JSON to this file',
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
    ...{ ...common, bits: [], inFile: 'it asks for one print-out: give it as a flag, --print' },
    check: text,
    flag: '--print <pass>',
    help: 'print the training step after this pass of the compiler (its name or number, hlo or executable) and stop',
    missing: { text: '' },
    places: {
      ...ofOutput,
      compile: true,
      up: 'pod compile prints the passes of the compiler',
      master: 'pod compile prints the passes of the compiler',
      job: 'pod compile prints the passes of the compiler',
    },
  },
};

/** All settings, in the order of help texts. */
export const settingKeys: readonly SettingKey[] = Object.keys(schema) as SettingKey[];

/** Whether a key of a file is a setting. */
export function isSettingKey(key: string): key is SettingKey {
  return Object.hasOwn(schema, key);
}

/** The long name of a setting's flag: `--global-batch`, `--no-relaxed-simd`. */
export function flagOf(key: SettingKey): string {
  return schema[key].flag.split(' ')[0] ?? '';
}

/** The value of a setting that nobody gave; undefined when it follows from others, or is none. */
export function missingValue<K extends SettingKey>(
  key: K,
  mode: Mode,
): SettingValues[K] | undefined {
  const missing: Missing<SettingValues[K]> = schema[key].missing;
  if (!('value' in missing)) return undefined;
  return isCluster(mode) ? (missing.inClusters ?? missing.value) : missing.value;
}

/** The words of the help text about that value; empty when there is nothing to say. */
export function missingText(key: SettingKey, mode: Mode): string {
  const { text: words } = schema[key].missing;
  return words ?? String(missingValue(key, mode));
}

/** Clusters are there to outlive losses. */
function isCluster(mode: Mode): boolean {
  return mode === 'up' || mode === 'master' || mode === 'job' || mode === 'serve';
}
