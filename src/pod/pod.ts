import type { Topology } from '../fabric/torus.ts';
import { type Executable, phases } from '../isa/executable.ts';
import { at } from '../numerics/assert.ts';
import type { MasterStart, Note, RecoveryPolicy } from './master.ts';
import type { StepReport } from './messages.ts';

/**
 * A slice with its programs loaded, as an experiment sees it: synchronous steps over all Cloud
 * TPUs, each committed once all hold the same weights. Every method waits while the slice recovers
 * from a loss, and rejects with a PodError that names the culprit once the run has failed.
 */
export interface Pod {
  readonly topology: Topology;
  /** Bytes of this machine's memory that the slice takes. */
  readonly memoryBytes: number;
  /** Runs the next step of a program on every Cloud TPU; they are counted from where it started. */
  step(program: number): Promise<Commit>;
  /** A program's parameters, by number, as they lie in HBM. Between steps only. */
  readParameters(program: number): Promise<readonly Uint8Array[]>;
  /**
   * Sets the first parameters of a program that does not take them from another, on every Cloud
   * TPU. Between steps only.
   */
  writeParameters(program: number, values: readonly Uint8Array[]): Promise<void>;
  /** Bytes carried so far by each directed link, by name: `chip(3,1)+x`. Between steps only. */
  linkBytes(): Readonly<Record<string, number>>;
  /** Ends all workers; also after a failure. */
  close(): Promise<void>;
}

/** Starts the workers of a slice and loads its programs. */
export type OpenPod = (options: PodOptions) => Promise<Pod>;

export interface PodOptions {
  readonly topology: Topology;
  readonly programs: readonly Program[];
  readonly mxu: 'fast' | 'systolic';
  /**
   * What becomes of the run when a Cloud TPU is lost; `none` unless given. For any other, programs
   * that update their parameters are compiled with `keepPrevious`.
   */
  readonly recovery?: RecoveryPolicy;
  /** Where the slice stands when it is opened; at step 0 of everything, with nothing to lose, unless given. */
  readonly start?: MasterStart;
  /** Told what goes wrong and comes right. */
  readonly onNote?: (note: Note) => void;
  /**
   * Told of each membership after the first, before any worker hears of it. If it throws, nobody
   * does, and the run has failed.
   */
  readonly onMembership?: (generation: number) => void;
  /**
   * Asked when no Cloud TPU has a program's parameters any more, for those saved last, after at
   * most `steps` steps. Without it, or when it has none: those that `writeParameters` set last.
   */
  readonly saved?: (program: number, steps: number) => Promise<SavedParameters | undefined>;
}

/** Every parameter of a program after `steps` steps, counted as in `Commit.step`. */
export interface SavedParameters {
  readonly steps: number;
  readonly values: readonly Uint8Array[];
}

/** An executable with where its parameters and its infeed come from. */
export interface Program {
  readonly executable: Executable;
  /** The first so many parameters make up the digest that Cloud TPUs must agree on: the weights. */
  readonly digested: number;
  /** Before a step its parameters are taken from the first ones of this program. */
  readonly parametersFrom?: number;
  /** Absent when the executable has no infeed. */
  readonly feed?: FeedSource;
}

/** What a program is fed: the images and labels of a dataset. */
export interface FeedSource {
  /** As `openDataset` of src/data takes it. */
  readonly dataset: string;
  readonly datasetSeed: number;
  readonly split: 'train' | 'test';
  /** Digest of the contents of the split as the master has it: a worker whose files differ is refused. */
  readonly digest: string;
  readonly globalBatch: number;
  /** `training` shuffles by `orderSeed`, on and on; `evaluation` passes in order, again and again. */
  readonly order: 'training' | 'evaluation';
  readonly orderSeed: number;
}

/** A step that counts. */
export interface Commit {
  readonly program: number;
  readonly step: number;
  /** Digest of the weights on every Cloud TPU, 16 hexadecimal digits. */
  readonly digest: string;
  /** In order of Cloud TPU. */
  readonly reports: readonly StepReport[];
  /** Wall time from the order to the commit. */
  readonly wallMs: number;
}

/** Mean wall time over the Cloud TPUs of each phase, in ms, in the order of isa's `phases`. */
export function meanPhaseMs(reports: readonly StepReport[]): number[] {
  return phases.map((_, phase) => {
    const total = reports.reduce((sum, report) => sum + at(report.phaseMs, phase), 0);
    return total / reports.length;
  });
}
