import { expect, describe as suite, test } from 'vitest';
import { inPlace, supports } from '../../src/compiler/codegen/supports.ts';
import { compile } from '../../src/compiler/compile.ts';
import { describe } from '../../src/compiler/describe.ts';
import { compileWith } from '../../src/compiler/pipeline.ts';
import { evaluateReplicas } from '../../src/hlo/evaluate.ts';
import type { Executable } from '../../src/isa/executable.ts';
import { conv2d, dense, flatten, maxPool, relu, sequential } from '../../src/model/layer.ts';
import { type StepProgram, trainStep } from '../../src/model/step.ts';
import { at } from '../../src/numerics/assert.ts';
import { literal, valuesOf } from '../../src/numerics/literal.ts';
import { stream, uniformLiteral } from '../../src/numerics/random.ts';
import { constant } from '../../src/optimizer/schedule.ts';
import { sgd } from '../../src/optimizer/sgd.ts';
import { interpret, sumByChip } from './interpret.ts';
import { keepLoops } from './loops.ts';

const cores = 4;
const bucketBytes = 512;

/** A training step of a network with the layers of `cnn` in small sizes. */
function smallStep(): StepProgram {
  const network = sequential(
    conv2d('conv1', 4, [3, 3]),
    relu('relu1'),
    conv2d('conv2', 8, [3, 3]),
    relu('relu2'),
    maxPool('pool', [2, 2]),
    flatten('flatten'),
    dense('dense1', 16),
    relu('relu3'),
    dense('dense2', 10),
  );
  const optimizer = sgd({ learningRate: constant(0.1), momentum: 0.9 });
  const sizes = { inputDims: [8, 8, 1], globalBatch: 2 * cores, replicas: cores };
  return trainStep({ network, optimizer, seed: 1, precision: 'default', ...sizes });
}

suite('a training step', () => {
  const program = smallStep();
  const loops = keepLoops({ supports, inPlace });
  const executable = compileWith(loops, program.module, { cores, bucketBytes });
  const units = executable.instructions.map(({ unit }) => unit);

  test('has the bits of evaluate on every core', () => {
    const parameters = program.parameters.map(({ value }) => value);
    const inputs = Array.from({ length: cores }, (_, core) => {
      const images = uniformLiteral(at(program.infeed, 0), stream(core, 'images'), 0, 1);
      return { parameters, infeed: [[images, literal('s32', [2], [core, 9 - core])]] };
    });
    const expected = evaluateReplicas(program.module, inputs, { allReduce: sumByChip });
    const found = interpret(executable, loops.kept, inputs);
    expected.forEach(({ values, outfeed }, core) => {
      expect(at(found.results, core).map(valuesOf)).toEqual(values.map(valuesOf));
      expect(at(found.outfeed, core).map(valuesOf)).toEqual(outfeed.flat().map(valuesOf));
    });
  });

  test('writes weight gradients directly into their bucket, one copy a chip', () => {
    const products = executable.instructions.filter((it) => it.unit === 'mxu');
    const kinds = products.map(({ target }) => at(executable.buffers, target).copies);
    expect(kinds.filter((copies) => copies === 'chip')).toHaveLength(4);
    const starts = executable.buckets.map(({ buffer }) => at(executable.buffers, buffer));
    for (const { target } of products.filter((_, i) => kinds[i] === 'chip')) {
      const { offset } = at(executable.buffers, target);
      expect(starts.some((it) => it.offset <= offset && offset < it.offset + it.bytes)).toBe(true);
    }
  });

  test('starts a bucket during the backward pass and waits for it afterwards', () => {
    const start = units.indexOf('all-reduce-start');
    const done = units.indexOf('all-reduce-done');
    expect(executable.buckets.length).toBeGreaterThan(1);
    expect(units.slice(start, done).filter((unit) => unit === 'mxu').length).toBeGreaterThan(1);
    expect(executable.instructions.slice(done).some(({ unit }) => unit === 'mxu')).toBe(false);
  });

  test('updates each weight and its momentum in place, in one loop', () => {
    expect(units).not.toContain('copy');
    expect(executable.results).toEqual(executable.parameters);
    const updates = executable.instructions.filter(
      (it) => it.unit === 'vpu' && it.phase === 'update' && it.targets.length === 2,
    );
    expect(updates).toHaveLength(program.weights);
  });

  test('puts every gradient into a bucket exactly once, without gaps', () => {
    for (const { elements, members } of executable.buckets) {
      const ends = members.map(({ offset, elements: n }) => [offset, offset + n] as const);
      const inOrder = ends.toSorted(([a], [b]) => a - b);
      inOrder.forEach(([start], i) => {
        expect(start).toBe(i === 0 ? 0 : inOrder[i - 1]![1]);
      });
      expect(inOrder.at(-1)![1]).toBe(elements);
    }
    const members = executable.buckets.flatMap((it) => it.members);
    expect(members).toHaveLength(program.weights + 2);
  });

  test('compiles to the same executable each time, with valid code', () => {
    const again = compile(program.module, { cores, bucketBytes });
    expect(WebAssembly.validate(again.code)).toBe(true);
    expect(again).toEqual(compile(smallStep().module, { cores, bucketBytes }));
  });

  test('has a description with instructions and buffers', () => {
    const text = describe(executable);
    expect(text).toContain('all-reduce all-reduce-start bucket 0: bucket 0');
    expect(text).toMatch(/compute mxu conv1: %\d+:f32\[2,6,6,4\]\*core = .* \(72x4x9 bf16\)/);
    expect(
      text.split('\n').filter((line) => / (parameter|constant|temporary) /.test(line)).length,
    ).toBeGreaterThan(executable.parameters.length);
  });
});

test('a larger limit makes a single bucket, and the listener sees every pass', () => {
  const { module } = smallStep();
  const seen: string[] = [];
  const executable: Executable = compileWith(keepLoops(), module, {
    cores,
    listener: ({ number, name }) => seen.push(`${number} ${name}`),
  });
  expect(executable.buckets).toHaveLength(1);
  expect(seen).toEqual([
    '1 canonicalize',
    '2 simplify',
    '3 cse',
    '4 dce',
    '5 all-reduce',
    '6 fusion',
  ]);
});
