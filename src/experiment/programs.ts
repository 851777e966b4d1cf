import { type CompileOptions, compile } from '../compiler/compile.ts';
import type { DatasetPair } from '../data/dataset.ts';
import type { HloModule } from '../hlo/instruction.ts';
import type { Executable } from '../isa/executable.ts';
import { networks } from '../model/networks.ts';
import { evaluateStep, type NetworkOptions, type StepProgram, trainStep } from '../model/step.ts';
import { bytesOf } from '../numerics/literal.ts';
import type { Optimizer } from '../optimizer/optimizer.ts';
import { sgd } from '../optimizer/sgd.ts';
import type { Program } from '../pod/pod.ts';
import { replicas, replicasPerCloudTpu, type TrainConfig } from './config.ts';
import { trainProgram } from './program-index.ts';
import { scheduleOf } from './schedule.ts';

/**
 * The two compiled programs of a run, with the initial values of the training program's parameters.
 */
export interface Programs {
  readonly train: Executable;
  readonly evaluate: Executable;
  /** Number of weights. In both programs the weights are the first parameters. */
  readonly weights: number;
  /** Initial bytes of every parameter of the training program. */
  readonly initialValues: readonly Uint8Array[];
}

/**
 * Returns the programs in the form in which workers take them: first training, then evaluation. The
 * sources of the infeeds are left out.
 */
export function programsForWorkers({
  train,
  evaluate,
  weights,
}: Programs): readonly [train: Program, evaluate: Program] {
  return [
    { executable: train, digested: weights },
    { executable: evaluate, digested: weights, parametersFrom: trainProgram },
  ];
}

/**
 * Builds and compiles the training program and the evaluation program of a run of `steps` steps.
 */
export function buildPrograms(config: TrainConfig, dataset: DatasetPair, steps: number): Programs {
  const step = trainingStep(config, dataset, steps);
  const evaluation = evaluateStep(networkOptions(config, dataset));
  return {
    train: compileFor(step.module, {
      keepPrevious: config.recovery !== 'none',
      ...rematOf(config),
    }),
    evaluate: compileFor(evaluation.module, rematOf(config)),
    weights: step.weights,
    initialValues: step.parameters.map(({ value }) => bytesOf(value).slice()),
  };
}

/** Returns the option of the compiler that says when values are computed a second time. */
export function rematOf({ remat }: TrainConfig): Pick<CompileOptions, 'remat'> {
  return remat === undefined ? {} : { remat };
}

/** Builds the training step of a run as HLO, before compilation. */
export function trainingStep(
  config: TrainConfig,
  dataset: DatasetPair,
  steps: number,
): StepProgram {
  return trainStep({
    ...networkOptions(config, dataset),
    optimizer: optimizerOf(config, steps),
  });
}

/** Compiles a module for the cores of a Cloud TPU. */
export function compileFor(
  module: HloModule,
  options: Omit<CompileOptions, 'cores'> = {},
): Executable {
  return compile(module, { cores: replicasPerCloudTpu, ...options });
}

function networkOptions(config: TrainConfig, { train }: DatasetPair): NetworkOptions {
  return {
    network: networks[config.model](train.classes),
    inputDims: [train.rows, train.columns, train.channels],
    seed: config.seed,
    globalBatch: config.globalBatch,
    replicas: replicas(config),
    precision: config.precision === 'bf16' ? 'default' : 'highest',
  };
}

function optimizerOf(config: TrainConfig, steps: number): Optimizer {
  return sgd({ learningRate: scheduleOf(config, steps), momentum: config.momentum });
}
