import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { compile } from '../../src/compiler/compile.ts';
import { isOnRngUnit } from '../../src/compiler/lowering/random.ts';
import { canonicalize } from '../../src/compiler/passes/canonicalize.ts';
import { flopsOf } from '../../src/compiler/work.ts';
import * as b from '../../src/hlo/build.ts';
import { cholesky, triangularSolve } from '../../src/hlo/build-linear-algebra.ts';
import { batchNormTraining } from '../../src/hlo/build-normalization.ts';
import { stochasticConvert } from '../../src/hlo/build-random.ts';
import { evaluate } from '../../src/hlo/evaluate.ts';
import type { HloInstruction, HloModule, RngBitGenerator } from '../../src/hlo/instruction.ts';
import { familyOf } from '../../src/hlo/ops.ts';
import { postOrder } from '../../src/hlo/traverse.ts';
import type { ElementType } from '../../src/numerics/element-type.ts';
import { valuesOf } from '../../src/numerics/literal.ts';
import { arrayShape } from '../../src/numerics/shape.ts';
import { arbitraryModule } from '../hlo/programs.ts';

const norms = ['batch-norm-training', 'batch-norm-inference', 'batch-norm-grad'] as const;

function batchNorms({ entry }: HloModule): number {
  return postOrder(entry.root).filter((it) => familyOf(it) === 'normalization').length;
}

/** Steps of plain code in the executable of a module with one result: their opcodes. */
function plainSteps(root: HloInstruction): string[] {
  const parameters = postOrder(root).filter((it) => it.opcode === 'parameter');
  const { instructions } = compile(b.module('m', parameters, root), { cores: 8 });
  return instructions.flatMap((it) => (it.unit === 'plain' ? [`${it.opcode}: ${it.reason}`] : []));
}

describe('the expansion of batch norms', () => {
  test('leaves none in the entry, and keeps every bit', () => {
    const programs = arbitraryModule({
      opcodes: [...norms, 'add', 'multiply'],
      types: ['f32', 'bf16'],
    });
    let seen = 0;
    fc.assert(
      fc.property(programs, ({ module, inputs }) => {
        const after = canonicalize(module);
        expect(batchNorms(after)).toBe(0);
        seen += batchNorms(module);
        const [before, now] = [module, after].map((it) =>
          evaluate(it, inputs).values.map(valuesOf),
        );
        expect(now).toEqual(before);
      }),
      { numRuns: 400 },
    );
    expect(seen).toBeGreaterThan(100);
  });

  test.each(['f32', 'bf16'] as const)('of %s runs in fused loops', (type) => {
    const x = b.parameter(0, arrayShape(type, [4, 5, 3]));
    const feature = b.parameter(1, arrayShape(type, [3]));
    const it = batchNormTraining(x, feature, feature, { epsilon: 0.001, featureIndex: 2 });
    expect(plainSteps(it)).toEqual([]);
    expect(flopsOf(it)).toBe(6 * 60);
  });
});

describe('the generator of a core', () => {
  const make = (state: ElementType, bits: ElementType, algorithm?: RngBitGenerator['algorithm']) =>
    b.rngBitGenerator(
      b.parameter(0, arrayShape(state, [state === 'u32' ? 4 : 2])),
      arrayShape(bits, [8]),
      algorithm,
    );

  test.each([
    ['u32', 'u32', 'rng_philox', true],
    ['u32', 'u32', 'rng_default', true],
    ['u32', 'u32', 'rng_three_fry', false],
    ['u64', 'u32', 'rng_philox', false],
    ['u32', 'u64', 'rng_philox', false],
    ['u32', 's32', 'rng_philox', false],
    ['u32', 'u8', 'rng_default', false],
  ] as const)('with a state of %s, %s bits and %s: %s', (state, bits, algorithm, isUnit) => {
    const it = make(state, bits, algorithm);
    expect(isOnRngUnit(it)).toBe(isUnit);
    const reason = 'rng-bit-generator: the generator of the core makes u32 of Philox from u32[4]';
    expect(plainSteps(b.getTupleElement(it, 1))).toEqual(isUnit ? [] : [reason]);
  });
});

test('matrices and rounding at random run as plain code', () => {
  const a = b.parameter(0, arrayShape('f32', [2, 3, 3]));
  const random = b.parameter(1, arrayShape('u32', [2, 3, 3]));
  expect(plainSteps(cholesky(a))).toEqual(['cholesky: no unit of the core decomposes matrices']);
  expect(plainSteps(triangularSolve(a, a))).toEqual([
    'triangular-solve: no unit of the core solves equations',
  ]);
  expect(plainSteps(stochasticConvert(a, random, 'bf16'))).toEqual([
    'stochastic-convert: no unit of the core rounds at random',
  ]);
  expect([cholesky(a), triangularSolve(a, a)].map(flopsOf)).toEqual([18, 54]);
});
