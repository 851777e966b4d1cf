import type { SettingValues } from '../cli/settings/schema.ts';

/**
 * Settings of a run, as in a `--config` file. Settings that are absent have the defaults of
 * `pod train`, except `recovery`, whose default is `replace`.
 */
export interface RunSettings {
  /** Number of Cloud TPUs: 1, 2, 4, 8, 16, 32 or 64. */
  readonly tpus?: number;
  /**
   * Size of the slice, as number of columns x number of rows of Cloud TPUs, such as `4x2`. It is
   * given instead of `tpus`. At most 8x8; in a simulation at most 32x32.
   */
  readonly topology?: string;
  readonly model?: 'mlp' | 'cnn';
  /** The data set: `digits` or `mnist:DIR`. */
  readonly data?: string;
  /**
   * Number of images in one step, over all cores together. It must be a multiple of the number of
   * cores.
   */
  readonly globalBatch?: number;
  readonly steps?: number;
  /** Number of passes over the training set. It is given instead of `steps`. */
  readonly epochs?: number;
  /** Peak learning rate. */
  readonly learningRate?: number;
  readonly schedule?: 'constant' | 'linear-scaling' | 'piecewise' | 'cosine';
  /** Share of the steps, from 0 to 1, in which the learning rate rises at the start of the run. */
  readonly warmUp?: number;
  /** Decay factor of the momentum, 0 to 1. */
  readonly momentum?: number;
  /** Seed of the initial weights, of the data set `digits` and of the order of the images. */
  readonly seed?: number;
  /** Type of the numbers that the matrix unit multiplies. */
  readonly precision?: 'bf16' | 'f32';
  /**
   * Way in which the matrix unit is emulated. Both ways give the same bits. `systolic` is slower.
   */
  readonly mxu?: 'fast' | 'systolic';
  /** When values are computed a second time to save HBM. Default: `auto`, only if needed. */
  readonly remat?: 'auto' | 'always' | 'never';
  /** What the pod does if a Cloud TPU is lost. */
  readonly recovery?: 'none' | 'replace' | 'slice-restart';
  /** Number of images that the network is evaluated on after the training. Default: all. */
  readonly evaluate?: number;
  /** False: the kernels use no fused multiply-adds. They are then slower and give the same bits. */
  readonly relaxedSimd?: boolean;
  /** Path of a checkpoint. The run begins with the weights of this checkpoint. */
  readonly startFrom?: string;
  /** Folder to which the run saves checkpoints. */
  readonly checkpoint?: string;
  /** Number of steps from one checkpoint to the next. */
  readonly every?: number;
  /** Number of checkpoints that are kept: the newest ones. */
  readonly keep?: number;
  /**
   * True: the run continues from the newest undamaged checkpoint in the folder `checkpoint`, if
   * there is one.
   */
  readonly resume?: boolean;
}

/** Settings of `pod train` that say where output goes. A tested run has no such output. */
type OutputSetting = 'log' | 'logLevel' | 'report' | 'run' | 'json' | 'print';

/**
 * The settings of `pod train`, except those of output. {@link RunSettings} is a copy of this type,
 * written out. If {@link RunSettings} used this type, the published type declarations would import
 * the declarations of all packages that the settings use.
 */
type Original = Partial<Omit<SettingValues, OutputSetting>>;

/** `true` if A and B allow the same values. Otherwise `never`, a type that no value has. */
type Same<A, B> = [A, B] extends [B, A]
  ? keyof A | keyof B extends keyof A & keyof B
    ? true
    : never
  : never;

/** This line does not compile if {@link RunSettings} and {@link Original} differ. */
const isCopy: Same<Required<RunSettings>, Required<Original>> = true;
void isCopy;
