import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import * as b from '../../src/hlo/build.ts';
import {
  call,
  conditional,
  optBarrier,
  scalarMap,
  whileLoop,
} from '../../src/hlo/build-control.ts';
import { tripsMax, whileOf } from '../../src/hlo/evaluate/control.ts';
import { evaluateComputation, type Value } from '../../src/hlo/evaluate.ts';
import type {
  HloComputation,
  HloInstruction,
  HloModule,
  While,
} from '../../src/hlo/instruction.ts';
import { parse } from '../../src/hlo/parse.ts';
import { print } from '../../src/hlo/print.ts';
import { countedTripsMax, tripCount } from '../../src/hlo/trip-count.ts';
import { verify } from '../../src/hlo/verify.ts';
import { at } from '../../src/numerics/assert.ts';
import type { ElementType } from '../../src/numerics/element-type.ts';
import { type Literal, literal, scalarsOf } from '../../src/numerics/literal.ts';
import { type ArrayShape, arrayShape, type Shape, tupleShape } from '../../src/numerics/shape.ts';
import { run } from './run.ts';

const s32 = arrayShape('s32', []);
const f32 = arrayShape('f32', []);
const small = fc.integer({ min: -100, max: 100 });

function unary(
  name: string,
  shape: Shape,
  make: (x: HloInstruction) => HloInstruction,
): HloComputation {
  const x = b.parameter(0, shape);
  return b.computation(name, [x], make(x));
}

/** A computation of s32 scalars: x → factor · x + addend. */
function affine(name: string, factor: number, addend: number): HloComputation {
  return unary(name, s32, (x) =>
    b.add(b.multiply(x, b.scalar('s32', factor)), b.scalar('s32', addend)),
  );
}

function moduleOf(
  make: (xs: readonly HloInstruction[]) => HloInstruction,
  shapes: readonly ArrayShape[],
): HloModule {
  const parameters = shapes.map((shape, i) => b.parameter(i, shape));
  const module = b.module('m', parameters, make(parameters));
  verify(module);
  return module;
}

const scalar = (type: ElementType, value: number): Literal => literal(type, [], [value]);
const numbers = (values: readonly Literal[]): unknown[] => values.map((it) => scalarsOf(it)[0]);

describe('a call', () => {
  test('computes what its computation computes', () => {
    fc.assert(
      fc.property(small, small, small, (x, factor, addend) => {
        const body = affine('f', factor, addend);
        expect(numbers(run((xs) => call(body, xs), [scalar('s32', x)]))).toEqual([
          factor * x + addend,
        ]);
      }),
    );
  });
  test('takes and returns tuples', () => {
    const pair = tupleShape([s32, f32]);
    const swap = unary('swap', pair, (x) =>
      b.tuple([b.getTupleElement(x, 1), b.getTupleElement(x, 0)]),
    );
    const results = run((xs) => call(swap, [b.tuple(xs)]), [scalar('s32', 3), scalar('f32', 0.5)]);
    expect(numbers(results)).toEqual([0.5, 3]);
  });
  test('is refused with operands that its computation does not take', () => {
    expect(() => call(affine('f', 1, 1), [b.scalar('f32', 1)])).toThrow(
      'call(f32[]): expected the operands of (s32[]) -> s32[]',
    );
  });
});

describe('a conditional', () => {
  const branches = [affine('zero', 10, 0), affine('one', 10, 1), affine('two', 10, 2)];

  test('runs the branch with the index, and the last one for any other index', () => {
    const operands = [7, 8, 9].map((n) => b.scalar('s32', n));
    fc.assert(
      fc.property(fc.integer({ min: -3, max: 5 }), (index) => {
        const [found] = numbers(
          run((xs) => conditional(xs[0]!, branches, operands), [scalar('s32', index)]),
        );
        expect(found).toBe([70, 81, 92][index] ?? 92);
      }),
    );
  });
  test('of a pred runs the first branch for true', () => {
    for (const [value, expected] of [
      [1, 50],
      [0, 61],
    ]) {
      const operands = [5, 6].map((n) => b.scalar('s32', n));
      const results = run(
        (xs) => conditional(xs[0]!, branches.slice(0, 2), operands),
        [scalar('pred', value!)],
      );
      expect(numbers(results)).toEqual([expected]);
    }
  });
  test('does not run the other branches', () => {
    const endless = unary('endless', s32, (x) =>
      whileLoop(
        x,
        unary('always', s32, () => b.scalar('pred', 1)),
        affine('same', 1, 0),
      ),
    );
    const operands = [5, 6].map((n) => b.scalar('s32', n));
    const results = run(
      (xs) => conditional(xs[0]!, [affine('zero', 10, 0), endless], operands),
      [scalar('pred', 1)],
    );
    expect(numbers(results)).toEqual([50]);
  });
  test('is printed as XLA prints it', () => {
    const operands = [5, 6].map((n) => b.scalar('s32', n));
    const text = (type: 'pred' | 's32'): string =>
      print(
        moduleOf(
          (xs) => conditional(xs[0]!, branches.slice(0, 2), operands),
          [arrayShape(type, [])],
        ),
      );
    expect(text('pred')).toContain(', true_computation=%zero, false_computation=%one');
    expect(text('s32')).toContain(', branch_computations={%zero, %one}');
  });

  const x = b.scalar('s32', 1);
  const p = b.scalar('pred', 1);
  const f = unary('f', f32, (it) => it);
  test.each([
    ['no branch', () => conditional(x, [], []), 'conditional(s32[]): expected at least one branch'],
    [
      'a selector of another type',
      () => conditional(b.scalar('u32', 1), branches, [x, x, x]),
      'expected a selector pred[] or s32[], not u32[]',
    ],
    [
      'an array as selector',
      () => conditional(b.full('s32', [2], 1), branches, [x, x, x]),
      'expected a selector pred[] or s32[], not s32[2]',
    ],
    [
      'three branches of a pred',
      () => conditional(p, branches, [x, x, x]),
      'expected two branches for a pred',
    ],
    ['an operand too few', () => conditional(x, branches, [x, x]), 'expected 4 operands'],
    [
      'results of two shapes',
      () => conditional(p, [affine('zero', 1, 0), f], [x, b.scalar('f32', 1)]),
      'expected f to be (f32[]) -> s32[], not (f32[]) -> f32[]',
    ],
  ])('of %s is refused', (_, make, message) => {
    expect(make).toThrow(message);
  });
  test('without branches in its text is refused', () => {
    const text = print(moduleOf((xs) => conditional(xs[0]!, branches, [x, x, x]), [s32]));
    expect(() => parse(text.replace(/, branch_computations={.*}/, ''))).toThrow(
      'expected at least one branch',
    );
  });
});

/** A loop over (s32 i, s32 x): while i < bound, i += step and x = 3·x + i. */
function counted(start: HloInstruction, bound: HloInstruction | number, step: number): While {
  const shape = tupleShape([s32, s32, s32]);
  const limit = typeof bound === 'number' ? b.scalar('s32', bound) : bound;
  const condition = unary('condition', shape, (v) =>
    b.compare('LT', b.getTupleElement(v, 0), b.getTupleElement(v, 2)),
  );
  const body = unary('body', shape, (v) => {
    const [i, x, n] = [0, 1, 2].map((k) => b.getTupleElement(v, k));
    const next = b.add(b.multiply(x!, b.scalar('s32', 3)), i!);
    return b.tuple([b.add(i!, b.scalar('s32', step)), next, n!]);
  });
  return whileLoop(b.tuple([start, b.scalar('s32', 1), limit]), condition, body);
}

const loopCases = fc.record({
  start: fc.integer({ min: -5, max: 5 }),
  bound: fc.integer({ min: -5, max: 20 }),
  step: fc.integer({ min: 1, max: 4 }),
});

describe('a while', () => {
  test('repeats its body as long as the condition is true', () => {
    fc.assert(
      fc.property(loopCases, ({ start, bound, step }) => {
        let x = 1;
        let i = start;
        for (; i < bound; i += step) x = (Math.imul(x, 3) + i) | 0;
        const results = run(([it]) => counted(it!, bound, step), [scalar('s32', start)]);
        expect(numbers(results)).toEqual([i, x, bound]);
      }),
    );
  });
  test('of an array needs no tuple', () => {
    const shape = arrayShape('f32', [2]);
    const condition = unary('small', shape, (x) =>
      b.compare('LT', b.reduceSum(x, [0]), b.scalar('f32', 100)),
    );
    const double = unary('double', shape, (x) => b.add(x, x));
    const [found] = run(([x]) => whileLoop(x!, condition, double), [literal('f32', [2], [1, 2])]);
    expect(scalarsOf(found!)).toEqual([64, 128]);
  });

  const always = unary('always', s32, () => b.scalar('pred', 1));
  const endless = (body: HloComputation): While => whileLoop(b.scalar('s32', 3), always, body);
  test.each([
    ['the same value', affine('same', 1, 0), 'after trip 1 as after trip 0'],
    ['two values in turn', affine('turn', -1, 0), 'after trip 4 as after trip 2'],
    ['a value that it reaches late', affine('halves', 2 ** 16, 0), 'after trip 3 as after trip 2'],
  ])('that repeats %s is refused', (_, body, message) => {
    expect(() => run(() => endless(body), [])).toThrow(
      `while(s32[]): expected a loop that ends, not one that is ${message}`,
    );
  });
  test('with too many trips is refused', () => {
    const it = endless(affine('next', 1, 1));
    const runOf = { call: evaluateComputation } as Parameters<typeof whileOf>[2];
    const start: Value = scalar('s32', 3);
    expect(() => whileOf(it, start, runOf, 1000)).toThrow(
      'while(s32[]): expected a loop of at most 1000 trips',
    );
    expect(tripsMax).toBe(16_777_216);
    const upTo = (end: number): While => {
      const below = unary('below', s32, (x) => b.compare('LT', x, b.scalar('s32', end)));
      return whileLoop(b.scalar('s32', 3), below, affine('next', 1, 1));
    };
    expect(numbers([whileOf(upTo(1003), start, runOf, 1000) as Literal])).toEqual([1003]);
    expect(() => whileOf(upTo(1004), start, runOf, 1000)).toThrow('of at most 1000 trips');
  });
  test('is printed as XLA prints it', () => {
    expect(print(moduleOf(() => endless(affine('next', 1, 1)), []))).toContain(
      's32[] while(%constant.0), condition=%always, body=%next',
    );
  });

  const x = b.scalar('s32', 1);
  const f = unary('f', f32, (it) => it);
  test.each([
    [
      'a condition that is no pred',
      () => whileLoop(x, affine('next', 1, 1), affine('next', 1, 1)),
      'expected next to be (s32[]) -> pred[], not (s32[]) -> s32[]',
    ],
    [
      'a body of another shape',
      () => whileLoop(x, always, f),
      'expected f to be (s32[]) -> s32[], not (f32[]) -> f32[]',
    ],
  ])('with %s is refused', (_, make, message) => {
    expect(make).toThrow(message);
  });
});

describe('the number of trips of a loop', () => {
  test('is known if start, bound and step are constants', () => {
    fc.assert(
      fc.property(loopCases, ({ start, bound, step }) => {
        const it = counted(b.scalar('s32', start), bound, step);
        expect(tripCount(it)).toBe(Math.max(0, Math.ceil((bound - start) / step)));
      }),
    );
  });
  test('is not known if start or bound is not a constant', () => {
    const x = b.parameter(0, s32);
    expect(tripCount(counted(x, 5, 1))).toBeUndefined();
    expect(tripCount(counted(b.scalar('s32', 0), x, 1))).toBeUndefined();
  });
  test('is known if the step is another element that starts with a constant', () => {
    const shape = tupleShape([s32, s32]);
    const loop = (step: HloInstruction): While =>
      whileLoop(
        b.tuple([b.scalar('s32', 0), step]),
        unary('low', shape, (v) => b.compare('LT', b.getTupleElement(v, 0), b.scalar('s32', 40))),
        unary('grow', shape, (v) => {
          const [i, s] = [0, 1].map((k) => b.getTupleElement(v, k));
          return b.tuple([b.add(i!, s!), b.add(s!, s!)]);
        }),
      );
    expect(tripCount(loop(b.scalar('s32', 1)))).toBe(6);
    expect(tripCount(loop(b.parameter(0, s32)))).toBeUndefined();
  });
  test('is not known above a limit', () => {
    expect(tripCount(counted(b.scalar('s32', 0), countedTripsMax, 1))).toBe(countedTripsMax);
    expect(tripCount(counted(b.scalar('s32', 0), countedTripsMax + 1, 1))).toBeUndefined();
  });
  test('is not known if the condition reads the tuple as a whole, or if there is none', () => {
    const { operands, body } = counted(b.scalar('s32', 0), 5, 1);
    const shape = body.root.shape;
    const inner = unary('inner', shape, () => b.scalar('pred', 0));
    const whole = unary('whole', shape, (x) => call(inner, [x]));
    expect(tripCount(whileLoop(operands[0]!, whole, body))).toBeUndefined();
    const condition = unary('never', s32, () => b.scalar('pred', 0));
    expect(tripCount(whileLoop(b.scalar('s32', 3), condition, affine('n', 1, 1)))).toBeUndefined();
  });
});

describe('a barrier', () => {
  test('gives its operand, which may be a tuple', () => {
    const xs = [scalar('s32', 3), scalar('f32', -0)];
    expect(numbers(run((all) => optBarrier(b.tuple(all)), xs))).toEqual([3, -0]);
    expect(numbers(run(([x]) => optBarrier(x!), xs.slice(0, 1)))).toEqual([3]);
  });
  test('is printed as XLA prints it', () => {
    expect(print(moduleOf(([x]) => optBarrier(x!), [s32]))).toContain(
      's32[] opt-barrier(%parameter.0)',
    );
  });
});

describe('a map', () => {
  const pairs = fc.array(fc.integer({ min: 1, max: 3 }), { maxLength: 3 }).chain((dims) => {
    const count = dims.reduce((n, d) => n * d, 1);
    const list = fc.array(small, { minLength: count, maxLength: count });
    return fc.record({ dims: fc.constant(dims), xs: list, ys: list });
  });
  test('applies its computation to the elements at the same index', () => {
    fc.assert(
      fc.property(pairs, ({ dims, xs, ys }) => {
        const [p, q] = [b.parameter(0, f32), b.parameter(1, s32)];
        const product = b.multiply(b.convert(p, 's32'), q);
        const body = b.computation('f', [p, q], b.compare('GT', product, q));
        const [found] = run(
          (all) => scalarMap(all, body),
          [literal('f32', dims, xs), literal('s32', dims, ys)],
        );
        expect(found!.shape).toEqual(arrayShape('pred', dims));
        expect(scalarsOf(found!)).toEqual(xs.map((x, i) => Number(x * ys[i]! > ys[i]!)));
      }),
    );
  });
  test('is printed as XLA prints it', () => {
    const module = moduleOf((xs) => scalarMap(xs, affine('f', 2, 1)), [arrayShape('s32', [2, 3])]);
    expect(print(module)).toContain('s32[2,3] map(%parameter.0), dimensions={0,1}, to_apply=%f');
    const some = print(module).replace('dimensions={0,1}', 'dimensions={1}');
    expect(() => parse(some)).toThrow('expected all 2 dimensions in order, found "{"');
  });

  const x = b.parameter(0, arrayShape('s32', [2, 3]));
  const pairOf = unary('pair', s32, (it) => b.tuple([it, it]));
  test.each([
    ['no operand', () => scalarMap([], affine('f', 1, 1)), 'map(): expected at least one operand'],
    [
      'two sizes',
      () => scalarMap([x, b.scalar('s32', 1)], affine('f', 1, 1)),
      'map(s32[2,3], s32[]): expected operands of one size',
    ],
    [
      'a computation that returns a tuple',
      () => scalarMap([x], pairOf),
      'expected pair to return a scalar, not (s32[], s32[])',
    ],
    [
      'a computation of another type',
      () =>
        scalarMap(
          [x],
          unary('f', f32, (it) => it),
        ),
      'expected f to be (s32[]) -> f32[], not (f32[]) -> f32[]',
    ],
  ])('of %s is refused', (_, make, message) => {
    expect(make).toThrow(message);
  });
});

describe('an instruction with an effect', () => {
  const token = b.afterAll();
  const sum = unary('sum', f32, (x) => b.allReduce(x));
  const fed = unary('fed', f32, () => b.getTupleElement(b.infeed(token, f32), 0));
  const inner = unary('inner', f32, (x) => call(sum, [x]));
  const condition = unary('condition', f32, (x) => b.compare('LT', x, b.scalar('f32', 1)));
  const p = b.scalar('pred', 1);
  test.each<[string, string, (x: HloInstruction) => HloInstruction]>([
    ['a called computation', 'all-reduce(f32[]): expected to stand', (x) => call(sum, [x])],
    ['a branch', 'expected to stand', (x) => conditional(p, [condition, fed].map(asF32), [x, x])],
    ['a loop', 'all-reduce(f32[]): expected to stand', (x) => whileLoop(x, condition, sum)],
    ['a call in a loop', 'in sum', (x) => whileLoop(x, condition, inner)],
  ])('is refused in %s', (_, message, make) => {
    const x = b.parameter(0, f32);
    expect(() => verify(b.module('m', [x], make(x)))).toThrow(message);
    expect(() => verify(b.module('m', [x], make(x)))).toThrow(
      /expected to stand in the entry computation, not in \w+/,
    );
  });
});

/** The computation itself, or one that converts its result to f32. */
function asF32(body: HloComputation): HloComputation {
  const { root } = body;
  return root.shape.type === 'f32' ? body : { ...body, root: b.convert(root, 'f32') };
}

test('a computation that several instructions call is printed once', () => {
  const body = affine('f', 2, 1);
  const text = print(moduleOf(([x]) => call(body, [call(body, [x!])]), [s32]));
  expect(text.match(/^%f /gm)).toHaveLength(1);
  expect(at(numbers(run(([x]) => call(body, [call(body, [x!])]), [scalar('s32', 1)])), 0)).toBe(7);
});
