import { describe, expect, test } from 'vitest';
import { type EvaluateResult, evaluateReplicas } from '../../src/hlo/evaluate.ts';
import type { HloInstruction } from '../../src/hlo/instruction.ts';
import { postOrder } from '../../src/hlo/traverse.ts';
import { verify } from '../../src/hlo/verify.ts';
import { conv2d, dense, flatten, maxPool, relu, sequential } from '../../src/model/layer.ts';
import { networks } from '../../src/model/networks.ts';
import {
  evaluateStep,
  gradientStep,
  type NetworkOptions,
  type StepProgram,
  trainStep,
} from '../../src/model/step.ts';
import { PodError } from '../../src/numerics/error.ts';
import { type Literal, literal, valueAt, valuesOf } from '../../src/numerics/literal.ts';
import { stream, uniformLiteral } from '../../src/numerics/random.ts';
import { arrayShape, product } from '../../src/numerics/shape.ts';
import { constant } from '../../src/optimizer/schedule.ts';
import { sgd } from '../../src/optimizer/sgd.ts';
import { interpret, type Values } from '../autodiff/interpret.ts';

const inputDims = [6, 6, 2];
const small = sequential(
  conv2d('conv1', 3, [3, 3]),
  relu('relu1'),
  maxPool('pool', [2, 2]),
  flatten('flatten'),
  dense('dense1', 5),
  relu('relu2'),
  dense('dense2', 4),
);
const options: NetworkOptions = {
  network: small,
  inputDims,
  seed: 1,
  globalBatch: 8,
  replicas: 1,
  precision: 'highest',
};
const optimizer = sgd({ learningRate: constant(0.5), momentum: 0.9 });

interface Batch {
  readonly images: Literal;
  readonly labels: Literal;
}

function batchOf(size: number, labels = Array.from({ length: size }, (_, i) => i % 4)): Batch {
  const images = uniformLiteral(
    arrayShape('f32', [size, ...inputDims]),
    stream(5, 'images'),
    -1,
    1,
  );
  return { images, labels: literal('s32', [size], labels) };
}

/** Returns the images and labels of a batch that replica `r` of `replicas` replicas receives. */
function shard({ images, labels }: Batch, r: number, replicas: number): Literal[] {
  return [images, labels].map(({ shape, data }) => {
    const [batch, ...dims] = shape.dims;
    const rows = batch! / replicas;
    const each = rows * product(dims);
    return {
      shape: arrayShape(shape.type, [rows, ...dims]),
      data: data.slice(r * each, (r + 1) * each),
    };
  });
}

function run(program: StepProgram, batch: Batch, replicas: number): EvaluateResult[] {
  const inputs = Array.from({ length: replicas }, (_, r) => ({
    parameters: program.parameters.map(({ value }) => value),
    infeed: [shard(batch, r, replicas)],
  }));
  return evaluateReplicas(program.module, inputs);
}

function largestRelative(found: readonly number[], expected: readonly number[]): number {
  const scale = Math.max(...expected.map(Math.abs));
  return Math.max(...found.map((x, i) => Math.abs(x - expected[i]!))) / scale;
}

/** Maps the instructions for parameters, images and labels of a gradient step to their values. */
function leavesOf(program: StepProgram, batch: Batch): Map<HloInstruction, Values> {
  const leaves = new Map<HloInstruction, Values>();
  for (const it of postOrder(program.module.entry.root)) {
    if (it.opcode === 'parameter') leaves.set(it, valuesOf(program.parameters[it.index]!.value));
    if (it.name === 'images') leaves.set(it, valuesOf(batch.images));
    if (it.name === 'labels') leaves.set(it, valuesOf(batch.labels));
  }
  return leaves;
}

test('gradients of a small network in f32 are close to those in f64', () => {
  const program = gradientStep(options);
  const batch = batchOf(8);
  const found = run(program, batch, 1)[0]!.values;
  const leaves = leavesOf(program, batch);
  expect(found.length).toBe(program.weights + 1);
  program.module.entry.root.operands.forEach((it, i) => {
    expect(largestRelative(valuesOf(found[i]!), interpret(it, leaves))).toBeLessThan(2e-6);
  });
});

test('gradients of a small network in f64 equal central differences of the loss', () => {
  const program = gradientStep({ ...options, globalBatch: 4 });
  const leaves = leavesOf(program, batchOf(4, [0, 3, -1, 2]));
  const { root, parameters } = program.module.entry;
  const loss = root.operands.at(-1)!;
  parameters.forEach((weight, w) => {
    const exact = interpret(root.operands[w]!, leaves);
    const values = leaves.get(weight)!;
    for (let i = 0; i < values.length; i += 7) {
      const at = (to: number) =>
        interpret(loss, new Map([...leaves, [weight, values.with(i, to)]]))[0]!;
      const step = 1e-6;
      const numeric = (at(values[i]! + step) - at(values[i]! - step)) / (2 * step);
      expect(Math.abs(exact[i]! - numeric)).toBeLessThan(1e-7);
    }
  });
});

test('the programs of all networks pass verify', () => {
  for (const network of [small, networks.mlp(4), networks.cnn(4)]) {
    const given = { ...options, network, inputDims: [28, 28, 1] };
    for (const it of [trainStep({ ...given, optimizer }), evaluateStep(given), gradientStep(given)])
      verify(it.module);
  }
});

test('gradients of one global batch on 1, 2, 4 and 8 replicas agree within 1e-5', () => {
  const batch = batchOf(8, [0, 1, 2, 3, -1, 1, -1, 3]);
  const alone = run(gradientStep(options), batch, 1)[0]!.values.map(valuesOf);
  for (const replicas of [2, 4, 8]) {
    const results = run(gradientStep({ ...options, replicas }), batch, replicas);
    for (const { values } of results) {
      expect(values).toEqual(results[0]!.values);
      values.forEach((value, i) => {
        expect(largestRelative(valuesOf(value), alone[i]!)).toBeLessThan(1e-5);
      });
    }
  }
});

describe('a training step', () => {
  const program = trainStep({ ...options, optimizer, replicas: 2 });
  const batch = batchOf(8);
  const results = run(program, batch, 2);
  const gradients = run(gradientStep({ ...options, replicas: 2 }), batch, 2)[0]!.values;

  test('adds −rate × gradient to each weight, and updates momentum and step count', () => {
    const { values } = results[0]!;
    const n = program.weights;
    for (let i = 0; i < n; i++) {
      const before = program.parameters[i]!.value;
      const moved = valuesOf(before).map((w, j) =>
        Math.fround(w + Math.fround(valuesOf(gradients[i]!)[j]! * -0.5)),
      );
      expect(valuesOf(values[i]!)).toEqual(moved);
      expect(values[n + i]).toEqual(gradients[i]);
    }
    expect(valuesOf(values[2 * n]!)).toEqual([1]);
    expect(program.parameters[2 * n]!.name).toBe('step');
  });

  test('sends mean loss, right answers and learning rate, equal on all replicas', () => {
    const [first, second] = results.map(({ outfeed }) => outfeed[0]!.map((it) => it.data[0]!));
    expect(first).toEqual(second);
    expect(program.outfeed).toEqual(['loss', 'correct', 'learningRate']);
    const [evaluated] = run(evaluateStep({ ...options, replicas: 2 }), batch, 2);
    const [correct, loss, samples] = evaluated!.outfeed[0]!.map((it) => valueAt(it, 0));
    expect(first).toEqual([expect.closeTo(loss! / 8, 6), correct, 0.5]);
    expect(samples).toBe(8);
  });

  test('updates in place: root element i takes the place of parameter i', () => {
    const { entry, aliases } = program.module;
    expect(aliases).toEqual(entry.parameters.map((_, i) => ({ output: i, parameter: i })));
    entry.parameters.forEach(({ shape }, i) => {
      expect(entry.root.operands[i]!.shape).toEqual(shape);
    });
  });

  test('names instructions of the backward pass and the update after their layers', () => {
    const names = postOrder(program.module.entry.root).map(({ name, opcode }) => name ?? opcode);
    const expected = [
      'conv1/kernel',
      'images',
      'conv1',
      'gradient/conv1',
      'all-reduce/conv1/kernel',
      'update/learning-rate',
      'update/conv1/kernel',
      'update/momentum/conv1/kernel',
      'update/step',
      'outfeed',
    ];
    expect(names).toEqual(expect.arrayContaining(expected));
  });

  test('reduces the loss of a repeated batch', () => {
    let parameters = program.parameters;
    const losses: number[] = [];
    for (let step = 0; step < 5; step++) {
      const [result] = run({ ...program, parameters }, batch, 2);
      losses.push(valueAt(result!.outfeed[0]![0]!, 0));
      parameters = parameters.map(({ name }, i) => ({ name, value: result!.values[i]! }));
    }
    expect(losses[4]!).toBeLessThan(losses[0]! * 0.9);
  });
});

test('a sample with label −1 does not change the loss', () => {
  const padded = batchOf(8, [0, 1, 2, 3, 0, 1, -1, -1]);
  const program = evaluateStep(options);
  const [, loss, samples] = run(program, padded, 1)[0]!.outfeed[0]!.map((it) => valueAt(it, 0));
  expect(samples).toBe(6);
  const other = { ...padded, images: { ...padded.images, data: padded.images.data.slice() } };
  (other.images.data as Float32Array).fill(1000, 6 * product(inputDims));
  expect(run(program, other, 1)[0]!.outfeed[0]![1]!.data[0]).toBe(loss);
});

test.each(['mlp', 'cnn'] as const)('matmuls of %s have the chosen precision', (name) => {
  for (const precision of ['default', 'highest'] as const) {
    const network = networks[name](10);
    const given = { ...options, network, inputDims: [28, 28, 1], precision, optimizer };
    const products = postOrder(trainStep(given).module.entry.root).flatMap((it) =>
      it.opcode === 'dot' || it.opcode === 'convolution' ? [it.precision] : [],
    );
    expect(products.length).toBe(name === 'mlp' ? 5 : 11);
    expect(new Set(products)).toEqual(new Set([precision]));
  }
});

test('a global batch that is no multiple of the replicas is refused with one line', () => {
  expect(() => gradientStep({ ...options, globalBatch: 100, replicas: 64 })).toThrow(
    new PodError('bad-config', 'global batch 100: expected a multiple of the 64 replicas'),
  );
});

test('the root of an evaluation step depends on the outfeed', () => {
  const opcodes = postOrder(evaluateStep(options).module.entry.root).map((it) => it.opcode);
  expect(opcodes).toContain('outfeed');
});
