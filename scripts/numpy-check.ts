import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { stdout } from 'node:process';
import { compile } from '../src/compiler/compile.ts';
import type { Dataset } from '../src/data/dataset.ts';
import { pixelsOf } from '../src/data/dataset.ts';
import { digits } from '../src/data/digits.ts';
import { evaluate } from '../src/hlo/evaluate.ts';
import type { Precision } from '../src/hlo/instruction.ts';
import type { Executable } from '../src/isa/executable.ts';
import { type NetworkName, networkNames, networks } from '../src/model/networks.ts';
import { gradientStep, type StepProgram, trainStep } from '../src/model/step.ts';
import { at } from '../src/numerics/assert.ts';
import { PodError } from '../src/numerics/error.ts';
import {
  bytesOf,
  type Literal,
  literal,
  literalOfBytes,
  valueAt,
} from '../src/numerics/literal.ts';
import { constant } from '../src/optimizer/schedule.ts';
import { sgd } from '../src/optimizer/sgd.ts';
import { type BenchTpu, benchTpu } from '../test/chip/bench-tpu.ts';
import { script } from './command.ts';

/**
 * Options of this script. The script runs a few training steps. It writes all their inputs and
 * results to a folder, as raw little-endian arrays and a `manifest.json`. Afterwards
 * `numpy-check.py` computes the same steps with NumPy alone, from the inputs in the folder, and
 * compares its results with those in the folder:
 *
 *   node dist/scripts/numpy-check.js DIR --model mlp --precision f32 && python3 scripts/numpy-check.py DIR
 */
export interface CheckOptions {
  readonly model: NetworkName;
  readonly precision: 'f32' | 'bf16';
  readonly batch: number;
  readonly steps: number;
  readonly learningRate: number;
  readonly momentum: number;
  readonly seed: number;
}

/**
 * Runs programs on a global batch. There are two kinds of runners: one uses the oracle
 * (`hlo/evaluate`), the other an emulated Cloud TPU.
 */
export interface Runner {
  readonly replicas: number;
  run(program: StepProgram, parameters: readonly Literal[], batch: readonly Literal[]): Outcome;
}

export interface Outcome {
  /** Arrays of the root tuple. */
  readonly values: readonly Literal[];
  /** Arrays of the outfeed. Empty if the program has none. */
  readonly outfeed: readonly Literal[];
}

/**
 * Runs `options.steps` training steps and writes their inputs and results to `directory`. For each
 * step it runs two programs on the same weights and batch. The gradient program returns the
 * gradients; the training program returns the new weights.
 */
export function exportRun(directory: string, options: CheckOptions, runner: Runner): void {
  mkdirSync(directory, { recursive: true });
  const write = (file: string, value: Literal): void =>
    writeFileSync(join(directory, file), bytesOf(value));
  const data = digits(options.seed, { split: 'train' });
  const { train, gradients } = programsOf(options, data, runner.replicas);
  const weights = train.parameters.slice(0, train.weights);
  const writeAll = (what: string, values: readonly Literal[]): void => {
    weights.forEach(({ name }, i) => {
      write(`${what}.${name.replaceAll('/', '.')}`, at(values, i));
    });
  };

  let parameters = train.parameters.map(({ value }) => value);
  const losses: number[] = [];
  const correct: number[] = [];
  for (let step = 0; step < options.steps; step++) {
    const batch = batchOf(data, options.batch, step);
    write(`images.${step}`, at(batch, 0));
    write(`labels.${step}`, at(batch, 1));
    writeAll(`weights.${step}`, parameters);
    const derived = runner.run(gradients, parameters.slice(0, train.weights), batch);
    writeAll(`gradient.${step}`, derived.values);
    const trained = runner.run(train, parameters, batch);
    losses.push(valueAt(at(trained.outfeed, 0), 0));
    correct.push(valueAt(at(trained.outfeed, 1), 0));
    parameters = trained.values.slice(0, parameters.length);
    stdout.write(`step ${step}: loss ${losses.at(-1)}\n`);
  }
  const { rows, columns, channels } = data;
  const described = weights.map(({ name, value }) => ({ name, dims: value.shape.dims }));
  const image = [rows, columns, channels];
  const manifest = { ...options, image, weights: described, losses, correct };
  writeFileSync(join(directory, 'manifest.json'), `${JSON.stringify(manifest, undefined, 2)}\n`);
}

interface Programs {
  readonly train: StepProgram;
  readonly gradients: StepProgram;
}

function programsOf(options: CheckOptions, data: Dataset, replicas: number): Programs {
  const precision: Precision = options.precision === 'f32' ? 'highest' : 'default';
  const given = {
    network: networks[options.model](data.classes),
    inputDims: [data.rows, data.columns, data.channels],
    seed: options.seed,
    globalBatch: options.batch,
    replicas,
    precision,
  };
  const { learningRate, momentum } = options;
  const optimizer = sgd({ learningRate: constant(learningRate), momentum });
  return { train: trainStep({ ...given, optimizer }), gradients: gradientStep(given) };
}

/** Returns the images and labels of the samples [step · size, (step + 1) · size), in order. */
function batchOf(data: Dataset, size: number, step: number): Literal[] {
  const area = pixelsOf(data);
  const pixels = new Uint8Array(size * area);
  const labels = Array.from({ length: size }, (_, i) =>
    data.sample(step * size + i, pixels, i * area),
  );
  const images = Float32Array.from(pixels, (byte) => at(data.normalisation, byte));
  const dims = [size, data.rows, data.columns, data.channels];
  return [literal('f32', dims, images), literal('s32', [size], labels)];
}

/** Runs programs with `hlo/evaluate`, the oracle, on one replica. */
const evaluateRunner: Runner = {
  replicas: 1,
  run(program, parameters, batch) {
    const { values, outfeed } = evaluate(program.module, { parameters, infeed: [batch] });
    return { values, outfeed: outfeed[0] ?? [] };
  },
};

/** Compiles programs and runs them on the eight cores of one emulated Cloud TPU. */
function cloudTpuRunner(): Runner {
  const replicas = 8;
  const loaded = new Map<StepProgram, { tpu: BenchTpu; executable: Executable }>();
  const load = (program: StepProgram): { tpu: BenchTpu; executable: Executable } => {
    const executable = compile(program.module, { cores: replicas });
    const made = { tpu: benchTpu(executable), executable };
    loaded.set(program, made);
    return made;
  };
  return {
    replicas,
    run(program, parameters, batch) {
      const { tpu, executable } = loaded.get(program) ?? load(program);
      parameters.forEach((value, i) => {
        tpu.cores.writeParameter(i, bytesOf(value));
      });
      const feed = Array.from({ length: replicas }, (_, core) =>
        batch.map((whole) => {
          const bytes = bytesOf(whole);
          const each = bytes.length / replicas;
          return bytes.subarray(core * each, (core + 1) * each);
        }),
      );
      const sent = tpu.step(feed);
      const values = executable.results.map((id) =>
        literalOfBytes(at(executable.buffers, id).shape, tpu.cores.readBuffer(id)),
      );
      const outfeed = executable.outfeed.map(({ shape }, i) =>
        literalOfBytes(shape, at(at(sent, i), 0)),
      );
      return { values, outfeed };
    },
  };
}

type Setting = 'model' | 'precision' | 'batch' | 'steps' | 'seed' | 'runner';

function main(): void {
  const command = script('numpy-check', 'write steps for scripts/numpy-check.py to check', 'DIR')
    .argument('[directory]', 'folder to write the steps into')
    .option('--model <name>', 'network', 'mlp')
    .option('--precision <type>', 'type of the numbers that the MXU multiplies: bf16 or f32', 'f32')
    .option('--batch <n>', 'images in a step', '8')
    .option('--steps <n>', 'number of steps', '10')
    .option('--seed <n>', 'seed of the weights and the data', '0')
    .option('--runner <name>', 'program that runs the steps: tpu or evaluate', 'tpu')
    .parse();
  const values = command.opts<Record<Setting, string>>();
  const [directory] = command.args;
  const model = networkNames.find((name) => name === values.model);
  const precision = (['f32', 'bf16'] as const).find((name) => name === values.precision);
  const runner = { tpu: cloudTpuRunner, evaluate: () => evaluateRunner }[values.runner];
  if (directory === undefined || !model || !precision || !runner) {
    const flags = `[--model ${networkNames.join('|')}] [--precision f32|bf16] [--runner tpu|evaluate]`;
    throw new PodError('bad-flag', `expected DIR ${flags} [--batch N] [--steps N] [--seed N]`);
  }
  const [batch, steps, seed] = [values.batch, values.steps, values.seed].map(Number);
  const rates = { learningRate: 0.001, momentum: 0.9 };
  const options = { model, precision, batch: batch!, steps: steps!, seed: seed!, ...rates };
  exportRun(directory, options, runner());
}

main();
