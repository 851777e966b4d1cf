import type { SettingValues } from '../cli/settings/schema.ts';

/**
 * Settings of a run, as in a `--config` file. Settings that are absent have the defaults of
 * `pod train`, except `recovery`, whose default is `replace`.
 */
export interface RunSettings {
  /** Number of Cloud TPUs: 1, 2, 4, 8, 16, 32 or 64. */
  readonly tpus?: number;
  /**
   * Number of columns x rows of Cloud TPUs, such as `4x2`. It is given instead of `tpus`. At most
   * 8x8; in a simulation at most 32x32.
   */
  readonly topology?: string;
  readonly model?: 'mlp' | 'cnn';
  /** The data set: `digits` or `mnist:DIR`. */
  readonly data?: string;
  /** Number of images in a step, over all cores. A multiple of the number of cores. */
  readonly globalBatch?: number;
  readonly steps?: number;
  /** Number of passes over the training set, instead of `steps`. */
  readonly epochs?: number;
  /** Peak learning rate. */
  readonly learningRate?: number;
  readonly schedule?: 'constant' | 'linear-scaling' | 'piecewise' | 'cosine';
  /** Share of the steps in which the learning rate rises, 0 to 1. */
  readonly warmUp?: number;
  /** Decay factor of the momentum, 0 to 1. */
  readonly momentum?: number;
  /** Seed of the initial weights, of the data set `digits` and of the order of the images. */
  readonly seed?: number;
  /** Type of the numbers that the matrix unit multiplies. */
  readonly precision?: 'bf16' | 'f32';
  /** Emulation of the matrix unit. Both give the same bits; `systolic` is slower. */
  readonly mxu?: 'fast' | 'systolic';
  /** What the pod does if a Cloud TPU is lost. */
  readonly recovery?: 'none' | 'replace' | 'slice-restart';
  /** Number of images that the network is evaluated on after the training. Default: all. */
  readonly evaluate?: number;
  /** False disables fused multiply-adds: slower, with the same bits. */
  readonly relaxedSimd?: boolean;
  /** Checkpoint with whose weights the run begins. */
  readonly startFrom?: string;
  /** Folder to which the run saves checkpoints. */
  readonly checkpoint?: string;
  /** Number of steps from one checkpoint to the next. */
  readonly every?: number;
  /** Number of checkpoints that are kept. */
  readonly keep?: number;
  /** True to continue the run of the newest good checkpoint. */
  readonly resume?: boolean;
}

/** Settings of `pod train` that say where output goes. A tested run has no such output. */
type OutputSetting = 'log' | 'logLevel' | 'report' | 'run' | 'json' | 'print';

/**
 * The settings of `pod train` without those of output. {@link RunSettings} repeats them instead of
 * using this type. Otherwise the published type declarations would import those of all the packages
 * that the settings use.
 */
type Original = Partial<Omit<SettingValues, OutputSetting>>;

/** `true` if both types allow the same values, otherwise `never`, which no value can have. */
type Same<A, B> = [A, B] extends [B, A]
  ? keyof A | keyof B extends keyof A & keyof B
    ? true
    : never
  : never;

/** Does not compile if {@link RunSettings} and {@link Original} differ. */
const isCopy: Same<Required<RunSettings>, Required<Original>> = true;
void isCopy;
