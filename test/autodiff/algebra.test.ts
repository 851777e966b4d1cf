import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { gradient } from '../../src/autodiff/gradient.ts';
import * as b from '../../src/hlo/build.ts';
import { cholesky, triangularSolve } from '../../src/hlo/build-linear-algebra.ts';
import {
  batchNormGrad,
  batchNormInference,
  batchNormTraining,
} from '../../src/hlo/build-normalization.ts';
import { replicaId, stochasticConvert } from '../../src/hlo/build-random.ts';
import { evaluate } from '../../src/hlo/evaluate.ts';
import type { HloInstruction, Parameter, TriangularSolve } from '../../src/hlo/instruction.ts';
import { postOrder } from '../../src/hlo/traverse.ts';
import { literal, valuesOf } from '../../src/numerics/literal.ts';
import { type ArrayShape, arrayShape, elementCount, product } from '../../src/numerics/shape.ts';
import { matricesOf, multiplied, transposed } from '../hlo/linear-algebra-f64.ts';
import { gradientError, slopeOf, spreadValues, weighted } from './check.ts';
import type { Values } from './interpret.ts';

const sizes = fc.record({
  batch: fc.array(fc.integer({ min: 1, max: 2 }), { maxLength: 2 }),
  n: fc.integer({ min: 1, max: 4 }),
  m: fc.integer({ min: 1, max: 3 }),
  seed: fc.nat(1000),
});

function f32(i: number, dims: readonly number[]): Parameter {
  return b.parameter(i, arrayShape('f32', dims));
}

/**
 * Expects derivatives to equal central differences within `error`, and second derivatives to equal
 * those of the derivatives within 100 times as much.
 */
function expectGradients(
  loss: HloInstruction,
  wrt: readonly HloInstruction[],
  leaves: ReadonlyMap<HloInstruction, Values>,
  error: number,
): void {
  expect(gradientError(loss, wrt, leaves)).toBeLessThan(error);
  expect(gradientError(slopeOf(loss, wrt), wrt, leaves)).toBeLessThan(100 * error);
}

describe('the derivative of a Cholesky decomposition', () => {
  test('is the central difference, also for batches', () => {
    fc.assert(
      fc.property(sizes, fc.boolean(), ({ batch, n, seed }, isLower) => {
        const dims = [...batch, n, n];
        const a = f32(0, dims);
        const values = matricesOf(spreadValues(product(dims), seed), dims).flatMap((g) =>
          multiplied(g, transposed(g)).flatMap((row, i) =>
            row.map((x, j) => x + (i === j ? 1 : 0)),
          ),
        );
        const loss = weighted(cholesky(a, isLower), seed);
        expectGradients(loss, [a], new Map([[a, values]]), 1e-6);
      }),
      { numRuns: 40 },
    );
  });
});

describe('the derivative of a triangular solve', () => {
  test('is the central difference for both operands, also for batches', () => {
    const options = fc.record({
      isLeftSide: fc.boolean(),
      isLower: fc.boolean(),
      hasUnitDiagonal: fc.boolean(),
      transpose: fc.constantFrom<TriangularSolve['transpose']>(
        'NO_TRANSPOSE',
        'TRANSPOSE',
        'ADJOINT',
      ),
    });
    fc.assert(
      fc.property(sizes, options, ({ batch, n, m, seed }, given) => {
        const dims = [...batch, n, n];
        const bDims = [...batch, ...(given.isLeftSide ? [n, m] : [m, n])];
        const [a, right] = [f32(0, dims), f32(1, bDims)];
        const values = spreadValues(product(dims), seed).map((x, k) =>
          Math.floor(k / n) % n === k % n ? Math.sign(x) * (1 + Math.abs(x)) : x / 2,
        );
        const leaves = new Map<HloInstruction, Values>([
          [a, values],
          [right, spreadValues(product(bDims), seed + 1)],
        ]);
        const loss = weighted(triangularSolve(a, right, given), seed);
        expectGradients(loss, [a, right], leaves, 1e-5);
      }),
      { numRuns: 40 },
    );
  });
});

const norms = fc.record({
  dims: fc.array(fc.integer({ min: 1, max: 3 }), { minLength: 1, maxLength: 3 }),
  feature: fc.nat(2),
  seed: fc.nat(1000),
  epsilon: fc.constantFrom(0.1, 0.5),
});

/** Parameters of the given sizes, and their values. Values of variances are not negative. */
function inputs(
  shapes: readonly (readonly number[])[],
  seed: number,
  variance: number,
): { parameters: Parameter[]; leaves: Map<HloInstruction, Values> } {
  const parameters = shapes.map((dims, i) => f32(i, dims));
  const leaves = new Map<HloInstruction, Values>(
    parameters.map((it, i) => {
      const values = spreadValues(elementCount(it.shape as ArrayShape), seed + i);
      return [it, i === variance ? values.map(Math.abs) : values];
    }),
  );
  return { parameters, leaves };
}

describe('the derivative of a batch norm', () => {
  test('in training is the central difference, by way of y, mean and variance', () => {
    fc.assert(
      fc.property(
        norms,
        fc.integer({ min: 1, max: 7 }),
        ({ dims, feature, seed, epsilon }, uses) => {
          const featureIndex = feature % dims.length;
          const each = [dims[featureIndex]!];
          const { parameters, leaves } = inputs([dims, each, each], seed, -1);
          const [x, scale, offset] = parameters as [Parameter, Parameter, Parameter];
          const it = batchNormTraining(x, scale, offset, { epsilon, featureIndex });
          const parts = [0, 1, 2]
            .filter((i) => (uses >> i) % 2 === 1)
            .map((i) => weighted(b.getTupleElement(it, i), seed + i));
          const loss = parts.reduce<HloInstruction>(
            (sum, part) => b.add(sum, part),
            b.scalar('f32', 0),
          );
          expectGradients(loss, parameters, leaves, 1e-6);
        },
      ),
      { numRuns: 200 },
    );
  });

  test('in training needs no sums of its own but those of batch-norm-grad', () => {
    const [x, f] = [f32(0, [4, 2]), f32(1, [2])];
    const it = batchNormTraining(x, f, f, { epsilon: 0.1, featureIndex: 1 });
    const [ct] = gradient(weighted(b.getTupleElement(it, 0)), [x]);
    const opcodes = postOrder(ct!).map(({ opcode }) => opcode);
    expect(opcodes).toContain('batch-norm-grad');
    expect(opcodes).not.toContain('reduce');
  });

  test('in training of bf16 is computed in f32', () => {
    const bf16 = (i: number, ...dims: number[]) => b.parameter(i, arrayShape('bf16', dims));
    const [x, scale, offset] = [bf16(0, 8, 2), bf16(1, 2), bf16(2, 2)];
    const it = batchNormTraining(x, scale, offset, { epsilon: 0.001, featureIndex: 1 });
    const given = gradient(weighted(b.getTupleElement(it, 0)), [x, scale, offset]);
    const wide = [f32(0, [8, 2]), f32(1, [2]), f32(2, [2])] as const;
    const inF32 = batchNormTraining(...wide, { epsilon: 0.001, featureIndex: 1 });
    const exact = gradient(weighted(b.getTupleElement(inF32, 0)), wide);
    const values = [x, scale, offset].map(({ shape }, i) =>
      literal(
        'bf16',
        (shape as ArrayShape).dims,
        spreadValues(elementCount(shape as ArrayShape), i),
      ),
    );
    const found = evaluate(b.module('m', [x, scale, offset], b.tuple(given)), {
      parameters: values,
    });
    const expected = evaluate(b.module('m', wide, b.tuple(exact)), {
      parameters: values.map((it) => literal('f32', it.shape.dims, valuesOf(it))),
    });
    expected.values.forEach((it, n) => {
      const limit = 2 ** -6 * Math.max(...valuesOf(it).map(Math.abs));
      expect(found.values[n]!.shape.type).toBe('bf16');
      valuesOf(it).forEach((value, i) => {
        expect(Math.abs(valuesOf(found.values[n]!)[i]! - value)).toBeLessThan(limit);
      });
    });
  });

  test('in inference is the central difference for all five operands', () => {
    fc.assert(
      fc.property(norms, ({ dims, feature, seed, epsilon }) => {
        const featureIndex = feature % dims.length;
        const each = [dims[featureIndex]!];
        const { parameters, leaves } = inputs([dims, each, each, each, each], seed, 4);
        const [x, scale, offset, mean, variance] = parameters as [
          Parameter,
          Parameter,
          Parameter,
          Parameter,
          Parameter,
        ];
        const options = { epsilon, featureIndex };
        const y = batchNormInference(x, { scale, offset }, { mean, variance }, options);
        expectGradients(weighted(y, seed), parameters, leaves, 1e-6);
      }),
      { numRuns: 40 },
    );
  });

  test('of a batch-norm-grad is the central difference for all five operands', () => {
    fc.assert(
      fc.property(norms, ({ dims, feature, seed, epsilon }) => {
        const featureIndex = feature % dims.length;
        const each = [dims[featureIndex]!];
        const { parameters, leaves } = inputs([dims, each, each, each, dims], seed, 3);
        const [x, scale, mean, variance, ct] = parameters as [
          Parameter,
          Parameter,
          Parameter,
          Parameter,
          Parameter,
        ];
        const it = batchNormGrad(x, scale, { mean, variance }, ct, { epsilon, featureIndex });
        const parts = [0, 1, 2].map((i) => weighted(b.getTupleElement(it, i), seed + i));
        const loss = b.add(b.add(parts[0]!, parts[1]!), parts[2]!);
        expectGradients(loss, parameters, leaves, 1e-5);
      }),
      { numRuns: 40 },
    );
  });
});

test('a stochastic-convert passes its cotangent on, in the type of its operand', () => {
  const x = f32(0, [3]);
  const random = b.parameter(1, arrayShape('u32', [3]));
  const [ct] = gradient(weighted(stochasticConvert(x, random, 'bf16')), [x]);
  const [plain] = gradient(weighted(b.convert(x, 'bf16')), [x]);
  const run = (root: HloInstruction) =>
    evaluate(b.module('m', [x, random], root), {
      parameters: [literal('f32', [3], [1, 2, 3]), literal('u32', [3], [7, 8, 9])],
    }).values[0]!;
  expect(run(ct!)).toEqual(run(plain!));
  expect(run(ct!).shape.type).toBe('f32');
});

test('the number of a replica is a constant for derivatives', () => {
  const x = f32(0, []);
  const [ct] = gradient(b.multiply(x, b.convert(replicaId(), 'f32')), [x]);
  expect(postOrder(ct!).some(({ opcode }) => opcode === 'replica-id')).toBe(true);
});
