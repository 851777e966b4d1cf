import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { argv, stdout } from 'node:process';
import { parseArgs } from 'node:util';
import type { Dataset } from '../src/data/dataset.ts';
import { pixelsOf } from '../src/data/dataset.ts';
import { digits } from '../src/data/digits.ts';
import { evaluate } from '../src/hlo/evaluate.ts';
import type { Precision } from '../src/hlo/instruction.ts';
import { type NetworkName, networkNames, networks } from '../src/model/networks.ts';
import { gradientStep, type StepProgram, trainStep } from '../src/model/step.ts';
import { at } from '../src/numerics/assert.ts';
import { PodError } from '../src/numerics/error.ts';
import { type Literal, literal, type NamedLiteral } from '../src/numerics/literal.ts';
import { constant } from '../src/optimizer/schedule.ts';
import { sgd } from '../src/optimizer/sgd.ts';

/**
 * Runs a few training steps and writes everything that went in and came out, as raw little-endian
 * arrays and a `manifest.json`, for `numpy-check.py` to compute again with nothing but NumPy:
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

/** Runs a program once, on the whole global batch, by whatever means. */
export type Runner = (
  program: StepProgram,
  parameters: readonly Literal[],
  batch: readonly Literal[],
) => Outcome;

export interface Outcome {
  /** The arrays of the root. */
  readonly values: readonly Literal[];
  /** The arrays of the outfeed, if there is one. */
  readonly outfeed: readonly Literal[];
}

/** Step by step: the gradients by the gradient program, the new weights by the training program. */
export function exportRun(directory: string, options: CheckOptions, runner: Runner): void {
  mkdirSync(directory, { recursive: true });
  const write = (file: string, { data }: Literal): void =>
    writeFileSync(
      join(directory, file),
      new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
    );
  const data = digits(options.seed, { split: 'train' });
  const { train, gradients } = programsOf(options, data);
  const weights = train.parameters.slice(0, train.weights);
  weights.forEach(({ name, value }) => {
    write(fileOf('initial', name), value);
  });

  let parameters = train.parameters.map(({ value }) => value);
  const losses: number[] = [];
  const correct: number[] = [];
  for (let step = 0; step < options.steps; step++) {
    const batch = batchOf(data, options.batch, step);
    write(`images.${step}`, at(batch, 0));
    write(`labels.${step}`, at(batch, 1));
    const derived = runner(gradients, parameters.slice(0, train.weights), batch);
    weights.forEach(({ name }, i) => {
      write(fileOf(`gradient.${step}`, name), at(derived.values, i));
    });
    const trained = runner(train, parameters, batch);
    losses.push(at(at(trained.outfeed, 0).data, 0));
    correct.push(at(at(trained.outfeed, 1).data, 0));
    parameters = trained.values.slice(0, parameters.length);
    stdout.write(`step ${step}: loss ${losses.at(-1)}\n`);
  }
  weights.forEach(({ name }, i) => {
    write(fileOf('final', name), at(parameters, i));
  });
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

function programsOf(options: CheckOptions, data: Dataset): Programs {
  const precision: Precision = options.precision === 'f32' ? 'highest' : 'default';
  const given = {
    network: networks[options.model](data.classes),
    inputDims: [data.rows, data.columns, data.channels],
    seed: options.seed,
    globalBatch: options.batch,
    replicas: 1,
    precision,
  };
  const { learningRate, momentum } = options;
  const optimizer = sgd({ learningRate: constant(learningRate), momentum });
  return { train: trainStep({ ...given, optimizer }), gradients: gradientStep(given) };
}

/** Samples [step · size, (step + 1) · size), in order. */
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

function fileOf(what: string, name: NamedLiteral['name']): string {
  return `${what}.${name.replaceAll('/', '.')}`;
}

/** By the definitions. */
function evaluateRunner(
  program: StepProgram,
  parameters: readonly Literal[],
  batch: readonly Literal[],
): Outcome {
  const { values, outfeed } = evaluate(program.module, { parameters, infeed: [batch] });
  return { values, outfeed: outfeed[0] ?? [] };
}

function main(): void {
  const { values, positionals } = parseArgs({
    args: argv.slice(2),
    allowPositionals: true,
    options: {
      model: { type: 'string', default: 'mlp' },
      precision: { type: 'string', default: 'f32' },
      batch: { type: 'string', default: '8' },
      steps: { type: 'string', default: '10' },
      seed: { type: 'string', default: '0' },
    },
  });
  const [directory] = positionals;
  const model = networkNames.find((name) => name === values.model);
  const precision = (['f32', 'bf16'] as const).find((name) => name === values.precision);
  if (directory === undefined || model === undefined || precision === undefined) {
    const flags = `[--model ${networkNames.join('|')}] [--precision f32|bf16]`;
    throw new PodError('bad-flag', `expected DIR ${flags} [--batch N] [--steps N] [--seed N]`);
  }
  const [batch, steps, seed] = [values.batch, values.steps, values.seed].map(Number);
  const rates = { learningRate: 0.05, momentum: 0.9 };
  const options = { model, precision, batch: batch!, steps: steps!, seed: seed!, ...rates };
  exportRun(directory, options, evaluateRunner);
}

main();
