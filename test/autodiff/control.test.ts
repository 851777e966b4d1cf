import fc from 'fast-check';
import { afterAll as afterTests, describe, expect, test } from 'vitest';
import { backward, gradient } from '../../src/autodiff/gradient.ts';
import type { Cotangents } from '../../src/autodiff/rule.ts';
import { rules } from '../../src/autodiff/rules.ts';
import { savedLoop } from '../../src/autodiff/saved-loop.ts';
import { unrolled, unrolledTripsMax } from '../../src/autodiff/while.ts';
import * as b from '../../src/hlo/build.ts';
import {
  call,
  conditional,
  optBarrier,
  scalarMap,
  whileLoop,
} from '../../src/hlo/build-control.ts';
import { sort, topk } from '../../src/hlo/build-ordering.ts';
import { evaluate } from '../../src/hlo/evaluate.ts';
import type {
  HloComputation,
  HloInstruction,
  Opcode,
  Parameter,
} from '../../src/hlo/instruction.ts';
import { familyOf, opcodes } from '../../src/hlo/ops.ts';
import { postOrder } from '../../src/hlo/traverse.ts';
import { verify } from '../../src/hlo/verify.ts';
import { at } from '../../src/numerics/assert.ts';
import { type Literal, literal, scalarsOf } from '../../src/numerics/literal.ts';
import { type ArrayShape, arrayShape, type Shape, tupleShape } from '../../src/numerics/shape.ts';
import { slopeOf, spreadValues, weighted } from './check.ts';

const f32 = (...dims: number[]): ArrayShape => arrayShape('f32', dims);
const s32 = arrayShape('s32', []);
const derived = new Set<Opcode>();

const families: readonly string[] = ['structure', 'ordering', 'control'];

afterTests(() => {
  const ofLeaves = opcodes.filter((it) => 'leaves' in rules[it]);
  const expected = ofLeaves.filter((opcode) => families.includes(familyOf({ opcode })));
  expect(expected.filter((opcode) => !derived.has(opcode))).toEqual([]);
});

type Make = (xs: readonly HloInstruction[]) => HloInstruction;

/**
 * Expects the gradient of a weighted sum of the array that `make` returns to equal central
 * differences of `evaluate`, which computes in f32. Expects the same of second derivatives.
 */
function expectGradient(make: Make, values: readonly Literal[]): void {
  const parameters = values.map(({ shape }, i) => b.parameter(i, shape));
  const y = make(parameters);
  for (const it of postOrder(y)) derived.add(it.opcode);
  const loss = weighted(y);
  const floats = parameters.filter(({ shape }) => shape.type === 'f32');
  expectSlopes(loss, parameters, values, 1e-3);
  expectSlopes(slopeOf(loss, floats), parameters, values, 1e-2);
}

function expectSlopes(
  loss: HloInstruction,
  parameters: readonly Parameter[],
  values: readonly Literal[],
  largest: number,
): void {
  const floats = parameters.filter(({ shape }) => shape.type === 'f32');
  const module = b.module('gradient', parameters, b.tuple(gradient(loss, floats)));
  verify(module);
  const exact = evaluate(module, { parameters: values }).values.map(scalarsOf);
  const lossAt = (inputs: readonly Literal[]): number =>
    Number(
      scalarsOf(evaluate(b.module('loss', parameters, loss), { parameters: inputs }).values[0]!),
    );
  const step = 2 ** -6;
  floats.forEach(({ index }, n) => {
    const { shape, data } = values[index]!;
    scalarsOf(values[index]!).forEach((_, i) => {
      const moved = (by: number): Literal[] => {
        const changed = (data as Float32Array).slice();
        changed[i]! += by;
        return values.with(index, { shape, data: changed });
      };
      const slope = (by: number): number => (lossAt(moved(by)) - lossAt(moved(-by))) / (2 * by);
      // Richardson's extrapolation: the error of the differences falls with the 4th power of `step`.
      const numeric = (4 * slope(step) - slope(2 * step)) / 3;
      const error = Math.abs(Number(exact[n]![i]) - numeric);
      expect(error / Math.max(1, Math.abs(numeric))).toBeLessThan(largest);
    });
  });
}

function spread(count: number, seed: number, dims: readonly number[] = [count]): Literal {
  return literal('f32', dims, spreadValues(count, seed, -1.5, 1.5));
}

function body(
  name: string,
  shapes: readonly Shape[],
  make: (...xs: HloInstruction[]) => HloInstruction,
): HloComputation {
  const parameters = shapes.map((shape, i) => b.parameter(i, shape));
  return b.computation(name, parameters, make(...parameters));
}

const seeds = fc.nat({ max: 1000 });
const runs = { numRuns: 20 };
const cube = (x: HloInstruction): HloInstruction => b.multiply(x, b.multiply(x, x));
const element = b.getTupleElement;

describe('the gradient of a call', () => {
  test('of two arrays, and of the result of one call used by another', () => {
    fc.assert(
      fc.property(seeds, (seed) => {
        const f = body('f', [f32(3), f32(3)], (x, y) => b.add(cube(x!), b.multiply(x!, y!)));
        expectGradient(
          ([x, y]) => call(f, [call(f, [x!, y!]), y!]),
          [spread(3, seed), spread(3, seed + 1)],
        );
      }),
      runs,
    );
  });
  test('that takes and returns nested tuples', () => {
    const shape = tupleShape([f32(3), tupleShape([s32, f32(3)])]);
    const f = body('f', [shape], (v) => {
      const inner = element(v!, 1);
      const [x, y] = [element(v!, 0), element(inner, 1)];
      return b.tuple([b.tuple([element(inner, 0), b.multiply(x, y)]), cube(y), inner]);
    });
    expectGradient(
      ([x, y]) => {
        const result = call(f, [b.tuple([x!, b.tuple([b.scalar('s32', 1), y!])])]);
        const kept = element(element(result, 2), 1);
        return b.add(element(element(result, 0), 1), b.add(element(result, 1), kept));
      },
      [spread(3, 1), spread(3, 2)],
    );
  });
  test('leaves out what has no derivative if the operand is constant', () => {
    const window = [b.windowDimension({ size: 3 })];
    const f = body('f', [f32(3), f32(3)], (x, y) => {
      const zero = b.scalar('f32', 0);
      const product = body('product', [f32(), f32()], (p, q) => b.multiply(p!, q!));
      return b.multiply(b.reduceWindow(y!, zero, window, product), b.slice(x!, [0], [1]));
    });
    expectGradient(([x]) => call(f, [x!, b.full('f32', [3], 2)]), [spread(3, 5)]);
  });
});

describe('the gradient of a conditional', () => {
  test('comes from the branch that runs, for each operand', () => {
    const square = body('square', [f32(3)], (x) => b.multiply(x!, x!));
    const pair = tupleShape([f32(3), f32(3)]);
    const product = body('product', [pair], (v) => b.multiply(element(v!, 0), element(v!, 1)));
    const negated = body('negated', [f32(3)], (x) => b.negate(cube(x!)));
    fc.assert(
      fc.property(seeds, fc.integer({ min: 0, max: 2 }), (seed, index) => {
        expectGradient(
          ([i, x, y]) => conditional(i!, [square, product, negated], [x!, b.tuple([y!, x!]), y!]),
          [literal('s32', [], [index]), spread(3, seed), spread(3, seed + 1)],
        );
        expectGradient(
          ([p, x, y]) => conditional(p!, [square, negated], [x!, b.multiply(x!, y!)]),
          [literal('pred', [], [index % 2]), spread(3, seed), spread(3, seed + 1)],
        );
      }),
      runs,
    );
  });
  test('that returns a tuple', () => {
    const both = body('both', [f32(3)], (x) => b.tuple([cube(x!), b.negate(x!)]));
    const swapped = body('swapped', [f32(3)], (x) => b.tuple([x!, b.multiply(x!, x!)]));
    for (const value of [0, 1]) {
      expectGradient(
        ([p, x]) => {
          const result = conditional(p!, [both, swapped], [x!, x!]);
          return b.add(element(result, 0), b.multiply(x!, element(result, 1)));
        },
        [literal('pred', [], [value]), spread(3, 4)],
      );
    }
  });
});

/** A loop of `trips` trips over (i, x, y): x' = x·y + i, y' = y·0.9 − x. */
function loop(trips: number | HloInstruction, x: HloInstruction, y: HloInstruction) {
  const { dims } = x.shape as ArrayShape;
  const shape = tupleShape([s32, x.shape, y.shape, s32]);
  const less = body('less', [shape], (v) => b.compare('LT', element(v!, 0), element(v!, 3)));
  const step = body('step', [shape], (v) => {
    const [i, p, q, n] = [0, 1, 2, 3].map((k) => element(v!, k));
    const shift = b.broadcastScalar(b.convert(i!, 'f32'), dims);
    const next = b.add(b.multiply(p!, q!), b.multiply(shift, b.full('f32', dims, 0.25)));
    const other = b.subtract(b.multiply(q!, b.full('f32', dims, 0.9)), p!);
    return b.tuple([b.add(i!, b.scalar('s32', 1)), next, other, n!]);
  });
  const bound = typeof trips === 'number' ? b.scalar('s32', trips) : trips;
  return whileLoop(b.tuple([b.scalar('s32', 0), x, y, bound]), less, step);
}

/** A loop over (i, x, y) whose values stay small: x' = 0.99·x + 0.005·y², y' = 0.99·y − 0.01·x. */
function fading(trips: number, x: HloInstruction, y: HloInstruction): HloInstruction {
  const shape = tupleShape([s32, x.shape, y.shape]);
  const less = body('less', [shape], (v) =>
    b.compare('LT', element(v!, 0), b.scalar('s32', trips)),
  );
  const step = body('step', [shape], (v) => {
    const [i, p, q] = [0, 1, 2].map((k) => element(v!, k));
    const times = (z: HloInstruction, n: number): HloInstruction =>
      b.multiply(z, b.full('f32', (z.shape as ArrayShape).dims, n));
    const next = b.add(times(p!, 0.99), times(b.multiply(q!, q!), 0.005));
    const other = b.subtract(times(q!, 0.99), times(p!, 0.01));
    return b.tuple([b.add(i!, b.scalar('s32', 1)), next, other]);
  });
  return whileLoop(b.tuple([b.scalar('s32', 0), x, y]), less, step);
}

describe('the gradient of a loop', () => {
  test('of a known number of trips', () => {
    fc.assert(
      fc.property(seeds, fc.integer({ min: 0, max: 4 }), fc.boolean(), (seed, trips, second) => {
        const small = (n: number): Literal => literal('f32', [2], spreadValues(2, n, -0.8, 0.8));
        expectGradient(
          ([x, y]) => element(loop(trips, x!, y!), second ? 2 : 1),
          [small(seed), small(seed + 1)],
        );
      }),
      runs,
    );
  });
  test('in a loop', () => {
    const shape = tupleShape([s32, f32(2), f32(2)]);
    const less = body('outer_less', [shape], (v) =>
      b.compare('LT', element(v!, 0), b.scalar('s32', 2)),
    );
    const step = body('outer_step', [shape], (v) => {
      const inner = loop(2, element(v!, 1), element(v!, 2));
      const next = b.add(element(v!, 0), b.scalar('s32', 1));
      return b.tuple([next, element(inner, 1), element(v!, 2)]);
    });
    expectGradient(
      ([x, y]) => element(whileLoop(b.tuple([b.scalar('s32', 0), x!, y!]), less, step), 1),
      [literal('f32', [2], [0.3, -0.4]), literal('f32', [2], [0.5, 0.7])],
    );
  });
  test('of more trips than are unrolled is computed by loops', () => {
    const make: Make = ([x, y]) => {
      const result = fading(unrolledTripsMax + 6, x!, y!);
      return b.add(element(result, 1), element(result, 2));
    };
    expectGradient(make, [literal('f32', [2], [0.1, -0.2]), literal('f32', [2], [0.3, 0.05])]);
    const x = b.parameter(0, f32(2));
    const [slope] = gradient(weighted(make([x, x])), [x]);
    expect(postOrder(slope!).filter(({ opcode }) => opcode === 'while')).toHaveLength(2);
  });
  test('is the same to the bit, unrolled and by loops', () => {
    const [x, y] = [b.parameter(0, f32(2)), b.parameter(1, f32(2))];
    const it = loop(5, x, y);
    const cotangents = [undefined, b.full('f32', [2], 1), undefined, undefined];
    const backwardOf = (found: Cotangents): Literal[] => {
      const values = b.tuple(found.filter((ct) => ct !== undefined));
      const inputs = [literal('f32', [2], [0.1, -0.2]), literal('f32', [2], [0.3, 0.7])];
      return [...evaluate(b.module('m', [x, y], values), { parameters: inputs }).values];
    };
    const request = { count: 5, cotangents };
    const loops = backwardOf(savedLoop(it, request, { isWanted: () => true, backward }));
    const plain = backwardOf(unrolled(it, request, { isWanted: () => true, backward }));
    expect(loops.map(scalarsOf)).toEqual(plain.map(scalarsOf));
  });
  test('is refused if the number of trips is not known', () => {
    const [x, n] = [b.parameter(0, f32(2)), b.parameter(1, s32)];
    expect(() => gradient(weighted(element(loop(n, x, x), 1)), [x])).toThrow(
      'no derivative of while: expected a loop of at most 65536 trips, by a counter that starts ' +
        'with a constant and is compared with a constant',
    );
  });
});

describe('the gradient of a barrier', () => {
  test('is the gradient of its operand, behind a barrier', () => {
    expectGradient(([x]) => cube(optBarrier(cube(x!))), [spread(3, 1)]);
    expectGradient(
      ([x, y]) => {
        const both = optBarrier(b.tuple([b.scalar('s32', 1), cube(x!), b.multiply(x!, y!)]));
        return b.multiply(element(both, 1), element(both, 2));
      },
      [spread(3, 1), spread(3, 2)],
    );
    const x = b.parameter(0, f32(2));
    const [slope] = gradient(weighted(optBarrier(cube(x))), [x]);
    const barriers = postOrder(slope!).filter(({ opcode }) => opcode === 'opt-barrier');
    expect(barriers.map(({ shape }) => shape.type)).toEqual(['tuple']);
  });
});

describe('the gradient of a map', () => {
  test('is a map of the derivatives', () => {
    const f = body('f', [f32(), f32()], (x, y) => b.add(cube(x!), b.multiply(x!, y!)));
    fc.assert(
      fc.property(seeds, (seed) => {
        const values = [spread(6, seed, [2, 3]), spread(6, seed + 1, [2, 3])];
        expectGradient((xs) => scalarMap(xs, f), values);
      }),
      runs,
    );
  });
});

/** Elements with distances of more than twice the step of the central difference. */
function apart(count: number, seed: number, dims: readonly number[]): Literal {
  return literal('f32', dims, spreadValues(count, seed, -4, 4));
}

describe('the gradient of an ordering', () => {
  const greater = body('greater', [f32(), f32()], (x, y) => b.compare('GT', x!, y!));
  const byFirst = body('by_first', [f32(), f32(), s32, s32, f32(), f32()], (x, y) =>
    b.compare('LT', x!, y!),
  );

  test('sort, along each dimension', () => {
    fc.assert(
      fc.property(seeds, fc.integer({ min: 0, max: 1 }), (seed, dimension) => {
        expectGradient(([x]) => sort([x!], dimension, greater), [apart(12, seed, [3, 4])]);
      }),
      runs,
    );
  });
  test('sort of several arrays together', () => {
    fc.assert(
      fc.property(seeds, fc.integer({ min: 0, max: 2 }), (seed, used) => {
        const tags = literal(
          's32',
          [3, 4],
          Array.from({ length: 12 }, (_, i) => i),
        );
        expectGradient(
          ([x, tag, y]) => {
            const sorted = sort([x!, tag!, y!], 1, byFirst);
            const [first, last] = [element(sorted, 0), element(sorted, 2)];
            return used === 0 ? first : used === 1 ? last : b.multiply(first, last);
          },
          [apart(12, seed, [3, 4]), tags, apart(12, seed + 1, [3, 4])],
        );
      }),
      runs,
    );
  });
  test('sort with equal elements gives each element its own cotangent', () => {
    const x = b.parameter(0, f32(4));
    const y = b.parameter(1, f32(4));
    const both = body('both', [f32(), f32(), f32(), f32()], (p, q) => b.compare('LT', p!, q!));
    const moved = element(sort([x, y], 0, both), 1);
    const weights = b.constant(literal('f32', [4], [1, 2, 3, 4]));
    const [slope] = gradient(b.reduceSum(b.multiply(moved, weights), [0]), [y]);
    const inputs = [literal('f32', [4], [1, 0, 1, 0]), literal('f32', [4], [9, 9, 9, 9])];
    const { values } = evaluate(b.module('m', [x, y], slope!), { parameters: inputs });
    expect(scalarsOf(at(values, 0))).toEqual([3, 1, 4, 2]);
  });
  test('topk', () => {
    fc.assert(
      fc.property(seeds, fc.integer({ min: 1, max: 4 }), fc.boolean(), (seed, k, largest) => {
        expectGradient(([x]) => element(topk(x!, k, largest), 0), [apart(12, seed, [3, 4])]);
      }),
      runs,
    );
  });
});
