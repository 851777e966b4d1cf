import type { Executable } from '../isa/executable.ts';
import { at } from '../numerics/assert.ts';
import { elementCount } from '../numerics/shape.ts';
import type { Program } from '../pod/pod.ts';
import type { NamedShape, Resumable } from './checkpoint/resume.ts';
import { type Start, withWeights } from './checkpoint/start-from.ts';
import { cloudTpus, type TrainConfig } from './config.ts';
import type { Started } from './event.ts';
import type { OpenedRun } from './open-run.ts';
import { buildPrograms, type Programs, programsForWorkers } from './programs.ts';

/** A run whose files have been read and whose programs have been compiled. */
export interface Run {
  readonly opened: OpenedRun;
  readonly config: TrainConfig;
  readonly startMs: number;
  readonly steps: number;
  readonly trainSamples: number;
  readonly testSamples: number;
  readonly programs: Programs;
}

/**
 * Prepares a run: compiles its programs, unless `built` has them already. `startMs` is the time at
 * which the run began.
 */
export function prepare(opened: OpenedRun, startMs: number, built?: Programs): Run {
  const { config, dataset, start, identity } = opened;
  const { steps } = identity;
  const programs = built ?? buildPrograms(config, dataset, steps);
  return {
    opened,
    config,
    startMs,
    steps,
    trainSamples: dataset.train.size,
    testSamples: evaluationSamples(config, dataset.test.size),
    programs: start === undefined ? programs : startedFrom(start, programs),
  };
}

/** Returns the programs with the weights of a checkpoint as initial weights. */
function startedFrom(start: Start, programs: Programs): Programs {
  const { train, weights, initialValues } = programs;
  const values = withWeights(start, parametersOf(train), weights, initialValues);
  return { ...programs, initialValues: values };
}

/**
 * Returns the number of examples to evaluate: the number in `evaluate`, rounded up to whole
 * batches, but at most `size`.
 */
function evaluationSamples({ evaluate, globalBatch }: TrainConfig, size: number): number {
  if (evaluate === undefined) return size;
  return Math.min(size, Math.ceil(evaluate / globalBatch) * globalBatch);
}

/** Returns the programs of a run, each with the source of its infeed, for `PodOptions.programs`. */
export function programsOf({ config, programs, opened: { dataset } }: Run): Program[] {
  const feed = {
    dataset: config.data,
    datasetSeed: config.seed,
    globalBatch: config.globalBatch,
    orderSeed: config.seed,
  };
  const [train, evaluate] = programsForWorkers(programs);
  return [
    {
      ...train,
      feed: { ...feed, split: 'train', order: 'training', digest: dataset.train.digest() },
    },
    {
      ...evaluate,
      feed: { ...feed, split: 'test', order: 'evaluation', digest: dataset.test.digest() },
    },
  ];
}

/** Returns the first event of a run. */
export function started({ config, steps, trainSamples, programs }: Run): Started {
  const { train, weights } = programs;
  const parameters = train.parameters
    .slice(0, weights)
    .reduce((sum, id) => sum + elementCount(at(train.buffers, id).shape), 0);
  return {
    kind: 'started',
    config,
    tpus: cloudTpus(config),
    steps,
    trainSamples,
    parameters,
    hbmBytesPerCore: train.hbm.peak,
    hbmLimitBytes: train.hbm.limit,
  };
}

/** Returns the names and shapes of a program's parameters. */
export function parametersOf({ parameters, buffers }: Executable): NamedShape[] {
  return parameters.map((id) => at(buffers, id));
}

/** Returns the identity and the parameters of a run. A checkpoint must fit both for a resume. */
export function resumable({ opened: { identity }, programs }: Run): Resumable {
  return { identity, parameters: parametersOf(programs.train) };
}
