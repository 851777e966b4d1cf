import type { Dataset } from '../../src/data/dataset.ts';
import type { TrainConfig } from '../../src/experiment/config.ts';
import type { OpenedRun } from '../../src/experiment/open-run.ts';
import type { Programs } from '../../src/experiment/programs.ts';
import { identityOf } from '../../src/experiment/same-run.ts';
import type { Topology } from '../../src/fabric/torus.ts';
import type { Buffer, Executable } from '../../src/isa/executable.ts';
import type { RecoveryPolicy } from '../../src/pod/master/options.ts';
import { coresPerCloudTpu } from '../../src/spec/tpu-v2.ts';
import { finite, hash } from './weights.ts';

/** Settings of a simulated run on which its programs and its data set depend. */
export interface SimulatedSettings {
  readonly topology: Topology;
  readonly steps: number;
  /** Number of batches of the evaluation. */
  readonly evaluationSteps: number;
  /** Number of buckets of gradients. */
  readonly buckets: number;
  readonly recovery: RecoveryPolicy;
  /** Seed of the initial weights. */
  readonly seed: number;
}

/** Returns the number of examples in a batch: one for each core. */
export function batchOf({ columns, rows }: Topology): number {
  return columns * rows * coresPerCloudTpu;
}

/**
 * Returns the run that `train` trains. The data set of the run has a number of examples but no
 * contents, because the simulated cores read no examples.
 */
export function simulatedExperiment(settings: SimulatedSettings): OpenedRun {
  const { topology, steps, evaluationSteps, recovery, seed } = settings;
  const globalBatch = batchOf(topology);
  const config: TrainConfig = {
    ...{ topology, model: 'mlp', data: 'simulated', globalBatch, seed, recovery },
    length: { unit: 'steps', steps },
    ...{ learningRate: 0, schedule: 'constant', warmUp: 0, momentum: 0 },
    ...{ precision: 'f32', mxu: 'fast', evaluate: undefined },
  };
  const train = datasetOf(globalBatch);
  const dataset = { train, test: datasetOf(evaluationSteps * globalBatch), notes: [] };
  return { config, dataset, start: undefined, identity: identityOf(config, train, null) };
}

function datasetOf(size: number): Dataset {
  return {
    ...{ name: 'simulated', size, rows: 1, columns: 1, channels: 1, classes: 1 },
    normalisation: new Float32Array(256),
    sample: () => 0,
    digest: () => '0'.repeat(64),
  };
}

/**
 * Returns the training program and the evaluation program of a simulated run, with the initial
 * weights. The programs have no instructions, because the cores are simulated. The weights are two
 * numbers, which are computed from the seed.
 */
export function simulatedPrograms({ buckets, seed }: SimulatedSettings): Programs {
  const train: Executable = {
    ...empty,
    name: 'simulated training',
    next: [1],
    buckets: Array.from({ length: buckets }, () => ({ buffer: 0, elements: 0, members: [] })),
  };
  const words = Uint32Array.of(finite(hash(seed, 0)), finite(hash(seed, 1)));
  return {
    train,
    evaluate: { ...empty, name: 'simulated evaluation' },
    weights: 1,
    initialValues: [new Uint8Array(words.buffer)],
  };
}

const weightsBuffer: Buffer = {
  ...{ name: 'weights', kind: 'parameter', shape: { type: 'f32', dims: [2] }, copies: 'shared' },
  ...{ offset: 0, stride: 0, bytes: 8, hbmOffset: 0, hbmBytes: 8 },
};

const empty: Omit<Executable, 'name'> = {
  ...{ cores: 8, buffers: [weightsBuffer], instructions: [], tables: [], constants: [] },
  ...{
    results: [],
    infeed: [],
    outfeed: [],
    buckets: [],
    exchanges: [],
    arenaBytes: 0,
    code: new Uint8Array(),
  },
  parameters: [0],
  hbm: {
    ...{ limit: 0, peak: 0, largest: [] },
    byKind: { program: 0, parameter: 0, constant: 0, infeed: 0, gradient: 0, temporary: 0 },
  },
};
