import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import * as b from '../../src/hlo/build.ts';
import {
  type BatchNormOptions,
  batchNormGrad,
  batchNormInference,
  batchNormTraining,
} from '../../src/hlo/build-normalization.ts';
import { evaluate } from '../../src/hlo/evaluate.ts';
import { expandedBatchNorm } from '../../src/hlo/expand-batch-norm.ts';
import type { BatchNorm, HloInstruction } from '../../src/hlo/instruction.ts';
import { typesOfKind } from '../../src/hlo/ops/check.ts';
import { parse } from '../../src/hlo/parse.ts';
import { print } from '../../src/hlo/print.ts';
import { at } from '../../src/numerics/assert.ts';
import type { ElementType } from '../../src/numerics/element-type.ts';
import { type Literal, literal, valuesOf } from '../../src/numerics/literal.ts';
import { arrayShape, elementCount } from '../../src/numerics/shape.ts';
import { batchNormF64 } from './batch-norm-f64.ts';
import { difference } from './same.ts';

interface Case {
  readonly it: BatchNorm;
  readonly inputs: readonly Literal[];
  readonly dims: readonly number[];
}

const kinds = ['training', 'inference', 'grad'] as const;

const builders: Readonly<
  Record<(typeof kinds)[number], (xs: readonly HloInstruction[], o: BatchNormOptions) => BatchNorm>
> = {
  training: ([x, a, c], options) => batchNormTraining(x!, a!, c!, options),
  inference: ([x, a, c, m, v], options) =>
    batchNormInference(x!, { scale: a!, offset: c! }, { mean: m!, variance: v! }, options),
  grad: ([x, a, m, v, ct], options) =>
    batchNormGrad(x!, a!, { mean: m!, variance: v! }, ct!, options),
};

/** Batch norms of all kinds with inputs between −1 and 2. Variances are not negative. */
function cases(types: readonly ElementType[], sizeMin = 0): fc.Arbitrary<Case> {
  return fc
    .record({
      kind: fc.constantFrom(...kinds),
      type: fc.constantFrom(...types),
      dims: fc.array(fc.integer({ min: sizeMin, max: 4 }), { minLength: 1, maxLength: 4 }),
      feature: fc.nat(),
      epsilon: fc.constantFrom(0.1, 0.001, 1.5e-7),
      seed: fc.array(fc.double({ min: -1, max: 2, noNaN: true }), { minLength: 97, maxLength: 97 }),
    })
    .map(({ kind, type, dims, feature, epsilon, seed }) => {
      const featureIndex = feature % dims.length;
      const whole = arrayShape(type, dims);
      const each = arrayShape(type, [at(dims, featureIndex)]);
      const shapes = {
        training: [whole, each, each],
        inference: [whole, each, each, each, each],
        grad: [whole, each, each, each, whole],
      }[kind];
      const variance = { training: -1, inference: 4, grad: 3 }[kind];
      const inputs = shapes.map((shape, n) =>
        literal(
          type,
          shape.dims,
          Array.from({ length: elementCount(shape) }, (_, i) => {
            const value = seed[(i * 5 + n * 11) % seed.length]!;
            return n === variance ? Math.abs(value) : value;
          }),
        ),
      );
      const parameters = shapes.map((shape, i) => b.parameter(i, shape));
      return { it: builders[kind](parameters, { epsilon, featureIndex }), inputs, dims };
    });
}

function moduleOf(root: HloInstruction, { it }: Case) {
  const parameters = it.operands.flatMap((x) => (x.opcode === 'parameter' ? [x] : []));
  return b.module('m', parameters, root);
}

/** Prints and reads the batch norm, and runs what was read. */
function run(given: Case): readonly Literal[] {
  const module = moduleOf(given.it, given);
  const read = parse(print(module));
  expect(difference(read, module)).toBeUndefined();
  return evaluate(read, { parameters: given.inputs }).values;
}

describe('a batch norm', () => {
  test('is what the formulas say, in f64', () => {
    fc.assert(
      fc.property(cases(['f32'], 1), (given) => {
        const { it, inputs, dims } = given;
        const expected = batchNormF64({ ...it, dims }, inputs.map(valuesOf));
        run(given).forEach((found, n) => {
          const values = valuesOf(found);
          // An error of 1e-6 in a sum of n squares grows by 1 / √epsilon.
          const limit = 2e-6 * Math.max(1, ...expected[n]!.map(Math.abs)) * (1 / it.epsilon) ** 0.5;
          values.forEach((value, i) => {
            expect(Math.abs(value - expected[n]![i]!)).toBeLessThan(limit);
          });
        });
      }),
    );
  });

  test('has the bits of its expansion, for every type', () => {
    fc.assert(
      fc.property(cases(typesOfKind('float')), (given) => {
        const expanded = moduleOf(expandedBatchNorm(given.it), given);
        const found = evaluate(expanded, { parameters: given.inputs }).values;
        expect(found.map(valuesOf)).toEqual(run(given).map(valuesOf));
        expect(found.map(({ shape }) => shape)).toEqual(run(given).map(({ shape }) => shape));
      }),
      { numRuns: 300 },
    );
  });

  test('in inference with the moments of the training has the bits of the training', () => {
    fc.assert(
      fc.property(cases(['f32']), (given) => {
        const [x, scale, offset] = given.it.operands;
        if (given.it.opcode !== 'batch-norm-training') return;
        const mean = b.getTupleElement(given.it, 1);
        const variance = b.getTupleElement(given.it, 2);
        const affine = { scale: scale!, offset: offset! };
        const y = batchNormInference(x!, affine, { mean, variance }, given.it);
        const both = moduleOf(b.tuple([b.getTupleElement(given.it, 0), y]), given);
        const [trained, inferred] = evaluate(both, { parameters: given.inputs }).values;
        expect(inferred!.data).toEqual(trained!.data);
      }),
    );
  });

  test('of a constant feature has variance 0 and gives the offset', () => {
    const dims = [4, 2];
    const x = literal('f32', dims, [1e6, 3, 1e6, 3, 1e6, 3, 1e6, 3]);
    const feature = (...values: number[]) => literal('f32', [2], values);
    const inputs = [x, feature(5, 6), feature(7, 8)];
    const parameters = inputs.map(({ shape }, i) => b.parameter(i, shape));
    const it = builders.training(parameters, { epsilon: 0.001, featureIndex: 1 });
    const [y, mean, variance] = run({ it, inputs, dims });
    expect(valuesOf(y!)).toEqual([7, 8, 7, 8, 7, 8, 7, 8]);
    expect([valuesOf(mean!), valuesOf(variance!)]).toEqual([
      [1e6, 3],
      [0, 0],
    ]);
  });

  const shaped = (i: number, type: ElementType, ...dims: number[]) =>
    b.parameter(i, arrayShape(type, dims));
  const [x, f] = [shaped(0, 'f32', 2, 3), shaped(1, 'f32', 3)];
  const options = { epsilon: 0.001, featureIndex: 1 };

  test('is printed as XLA prints it', () => {
    const text = print(b.module('m', [x, f], builders.training([x, f, f], options)));
    expect(text).toContain(
      '(f32[2,3], f32[3], f32[3]) batch-norm-training(%parameter.0, %parameter.1, %parameter.1), epsilon=0.001, feature_index=1',
    );
  });

  test('reads an epsilon with an exponent', () => {
    const text = print(b.module('m', [x, f], builders.training([x, f, f], options)));
    const { root } = parse(text.replace('epsilon=0.001', 'epsilon=1.5e-07')).entry;
    expect(root).toMatchObject({ epsilon: 1.5e-7 });
    expect(() => parse(text.replace('epsilon=0.001', 'epsilon=nan'))).toThrow(
      'expected a number, found "nan"',
    );
  });

  test.each([
    [
      'integers',
      [shaped(0, 's32', 2, 3), f, f],
      options,
      'expected elements of a float type, not s32',
    ],
    [
      'no such feature',
      [x, f, f],
      { ...options, featureIndex: 2 },
      'expected feature_index below 2, not 2',
    ],
    [
      'a negative feature',
      [x, f, f],
      { ...options, featureIndex: -1 },
      'expected feature_index below 2, not -1',
    ],
    [
      'a negative epsilon',
      [x, f, f],
      { ...options, epsilon: -1 },
      'expected epsilon of 0 or more, not -1',
    ],
    ['a wide scale', [x, x, f], options, 'expected f32[3] as operand 1'],
    [
      'an offset of another size',
      [x, f, shaped(2, 'f32', 2)],
      options,
      'expected f32[3] as operand 2',
    ],
    [
      'a scale of another type',
      [x, shaped(2, 'bf16', 3), f],
      options,
      'expected f32[3] as operand 1',
    ],
  ])('of %s is refused', (_, operands, given, message) => {
    expect(() => builders.training(operands, given)).toThrow(message);
  });

  test('of too small moments, or of a cotangent of another size, is refused', () => {
    const small = shaped(2, 'f32', 2);
    expect(() => builders.inference([x, f, f, small, f], options)).toThrow(
      'batch-norm-inference(f32[2,3], f32[3], f32[3], f32[2], f32[3]): expected f32[3] as operand 3',
    );
    expect(() => builders.grad([x, f, f, f, f], options)).toThrow(
      'batch-norm-grad(f32[2,3], f32[3], f32[3], f32[3], f32[3]): expected f32[2,3] as operand 4',
    );
  });
});
