import type { Topology } from '../fabric/torus.ts';
import { type Executable, phases } from '../isa/executable.ts';
import { at } from '../numerics/assert.ts';
import type { Note } from './master/action.ts';
import type { RecoveryPolicy } from './master/options.ts';
import type { MasterStart } from './master/state.ts';
import type { StepReport } from './messages.ts';

/**
 * A slice with its programs loaded, as an experiment sees it. All Cloud TPUs run each step
 * together. A step is committed when all have finished it with the same weights.
 *
 * Asynchronous methods wait while the slice recovers from a loss. They reject with a PodError once
 * the run has failed.
 */
export interface Pod {
  readonly topology: Topology;
  /** How many bytes of this machine's memory the slice takes. */
  readonly memoryBytes: number;
  /**
   * Runs the next step of a program on every Cloud TPU, and resolves when the step is committed.
   */
  step(program: number): Promise<Commit>;
  /**
   * Returns the parameters of a program, as bytes in the layout of HBM. Entry i is parameter i.
   * Call only between steps.
   */
  readParameters(program: number): Promise<readonly Uint8Array[]>;
  /**
   * Sets parameters of a program on every Cloud TPU: `values[i]` has the bytes of parameter i. Call
   * only between steps, and only for a program without `parametersFrom`.
   */
  writeParameters(program: number, values: readonly Uint8Array[]): Promise<void>;
  /**
   * Returns how many bytes each directed link has carried so far. The keys are names of links:
   * `chip(3,1)+x` is the link from chip (3, 1) in direction +x. Call only between steps.
   */
  linkBytes(): Readonly<Record<string, number>>;
  /** Ends all workers. May be called after a failure too. */
  close(): Promise<void>;
}

/** Starts the workers of a slice and loads its programs. */
export type OpenPod = (options: PodOptions) => Promise<Pod>;

export interface PodOptions {
  readonly topology: Topology;
  readonly programs: readonly Program[];
  readonly mxu: 'fast' | 'systolic';
  /**
   * Policy after the loss of a Cloud TPU. Default: `none`. With any other policy, an interrupted
   * step runs again. So a program that updates its parameters must keep the old parameters during a
   * step: compile it with the option `keepPrevious`.
   */
  readonly recovery?: RecoveryPolicy;
  /**
   * State of the run when the slice is opened. Default: step 0 of every program, no parameters yet.
   */
  readonly start?: MasterStart;
  /** Called with each fault of the slice, and with each stage of the recovery from a fault. */
  readonly onNote?: (note: Note) => void;
  /**
   * Called when a new membership begins, with its generation, before any worker receives the
   * generation. Not called for the first membership. If the callback throws, no worker receives the
   * generation and the run fails.
   */
  readonly onMembership?: (generation: number) => void;
  /**
   * Returns the newest parameters of a program that were saved after at most `steps` steps. Called
   * when no Cloud TPU has the current parameters any more. If the function is absent or returns
   * undefined, the slice goes back to the parameters that `writeParameters` set last. If
   * `writeParameters` was never called, the parameters become zeros.
   */
  readonly saved?: (program: number, steps: number) => Promise<SavedParameters | undefined>;
}

/**
 * All parameters of a program, as they were after its first `steps` steps. `values[i]` has the
 * bytes of parameter i.
 */
export interface SavedParameters {
  readonly steps: number;
  readonly values: readonly Uint8Array[];
}

/** An executable, with the sources of its parameters and of its infeed. */
export interface Program {
  readonly executable: Executable;
  /**
   * Number of the program's parameters (arrays) that are weights. These are its first parameters.
   * The digest of a program covers them and no other parameters. After a step, all Cloud TPUs must
   * have the same digest.
   */
  readonly digested: number;
  /**
   * Index of another program, the source of the parameters of this program. Before a step,
   * parameter i of the source is copied to parameter i of this program. Absent if this program has
   * parameters of its own.
   */
  readonly parametersFrom?: number;
  /** Source of the infeed. Absent when the executable has no infeed. */
  readonly feed?: FeedSource;
}

/** Source of a program's infeed: the images and labels of a dataset. */
export interface FeedSource {
  /** Name or path of the dataset, in the form that `openDataset` of src/data accepts. */
  readonly dataset: string;
  readonly datasetSeed: number;
  readonly split: 'train' | 'test';
  /**
   * Digest of the contents of the split, as the master read them. A worker whose files have other
   * contents fails with `bad-data`.
   */
  readonly digest: string;
  readonly globalBatch: number;
  /**
   * Order of the samples. `training`: each pass over the split is in a new random order, which
   * follows from `orderSeed`. `evaluation`: each pass is in the order of the split. In both cases
   * another pass follows each pass, without end.
   */
  readonly order: 'training' | 'evaluation';
  readonly orderSeed: number;
}

/** A committed step: all Cloud TPUs ended the step with the same weights. */
export interface Commit {
  readonly program: number;
  /** Number of the step, from 0 at the start of the program. */
  readonly step: number;
  /** Digest of the weights, 16 hexadecimal digits; the same on every Cloud TPU. */
  readonly digest: string;
  /** One report for each Cloud TPU, in order of Cloud TPU numbers. */
  readonly reports: readonly StepReport[];
  /** Wall time, in ms, from the request for the step to its commit. */
  readonly wallMs: number;
}

/**
 * Returns the wall time, in ms, of each phase of a step, as the mean over all Cloud TPUs. The
 * phases are in the order of `phases` (src/isa).
 */
export function meanPhaseMs(reports: readonly StepReport[]): number[] {
  return phases.map((_, phase) => {
    const total = reports.reduce((sum, report) => sum + at(report.phaseMs, phase), 0);
    return total / reports.length;
  });
}
