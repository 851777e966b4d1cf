import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { compile } from '../../src/compiler/compile.ts';
import { canonicalize } from '../../src/compiler/passes/canonicalize.ts';
import { cse } from '../../src/compiler/passes/cse.ts';
import { simplify } from '../../src/compiler/passes/simplify.ts';
import { variesByCore } from '../../src/compiler/sharing.ts';
import { structureKey } from '../../src/compiler/structure.ts';
import { flopsOf } from '../../src/compiler/work.ts';
import * as b from '../../src/hlo/build.ts';
import {
  call,
  conditional,
  optBarrier,
  scalarMap,
  whileLoop,
} from '../../src/hlo/build-control.ts';
import { sort, topk } from '../../src/hlo/build-ordering.ts';
import type { HloComputation, HloInstruction, Opcode } from '../../src/hlo/instruction.ts';
import { computationsOf, postOrder } from '../../src/hlo/traverse.ts';
import { arrayShape, tupleShape } from '../../src/numerics/shape.ts';

const s32 = arrayShape('s32', []);
const x = b.parameter(0, s32);
const p = b.parameter(1, arrayShape('pred', []));

function body(make: (x: HloInstruction) => HloInstruction): HloComputation {
  const it = b.parameter(0, s32);
  return b.computation('f', [it], make(it));
}

const plus = (n: number): HloComputation => body((it) => b.add(it, b.scalar('s32', n)));
const below = (n: number): HloComputation => body((it) => b.compare('LT', it, b.scalar('s32', n)));
const same = b.add(x, b.scalar('s32', 1));
const order = (direction: 'LT' | 'GT'): HloComputation => {
  const [y, z] = [0, 1].map((i) => b.parameter(i, s32));
  return b.computation('order', [y!, z!], b.compare(direction, y!, z!));
};

/** For each opcode that calls computations: instructions that differ in one of these alone. */
const variants: readonly (readonly [Opcode, (n: number) => HloInstruction])[] = [
  ['call', (n) => call(plus(n), [x])],
  ['conditional', (n) => conditional(p, [plus(n), plus(1)], [x, x])],
  ['conditional', (n) => conditional(p, [plus(1), plus(n)], [x, x])],
  ['conditional', (n) => conditional(x, [plus(1), plus(2), plus(n)], [x, x, x])],
  ['while', (n) => whileLoop(x, below(n), plus(1))],
  ['while', (n) => whileLoop(x, below(9), plus(n))],
  [
    'while',
    (n) =>
      whileLoop(
        x,
        below(9),
        body((it) => call(plus(n), [it])),
      ),
  ],
  ['map', (n) => scalarMap([x], plus(n))],
  ['sort', (n) => sort([b.reshape(x, [1])], 0, order(n === 1 ? 'LT' : 'GT'))],
];

describe('a pass that joins equal instructions', () => {
  test.each(variants)('joins %s with equal computations, and no others', (opcode, make) => {
    const count = (...numbers: number[]): number => {
      const module = b.module('m', [x, p], b.tuple(numbers.map(make)));
      return postOrder(cse(module).entry.root).filter((it) => it.opcode === opcode).length;
    };
    expect(count(1, 1)).toBe(1);
    expect(count(1, 2)).toBe(2);
  });
  test('keeps barriers apart', () => {
    const module = b.module('m', [x], b.tuple([optBarrier(x), optBarrier(x)]));
    const { entry } = cse(simplify(module));
    expect(postOrder(entry.root).filter(({ opcode }) => opcode === 'opt-barrier')).toHaveLength(2);
  });
});

test('a branch with a constant of 64 bits is part of the key of a conditional', () => {
  const wide = arrayShape('s64', []);
  const it = b.parameter(0, wide);
  const branch = (n: number): HloComputation =>
    b.computation('f', [it], b.add(it, b.scalar('s64', n)));
  const key = (n: number): string =>
    structureKey(conditional(p, [branch(1), branch(n)], [it, it]), () => 0);
  expect(key(1)).not.toBe(key(2));
  expect(key(2)).toBe(key(2));
});

/** The units and the reasons of plain code of an executable. */
function unitsOf(root: HloInstruction): readonly string[] {
  const { instructions } = compile(b.module('m', [x, p], root), { cores: 1 });
  return instructions.map((it) => (it.unit === 'plain' ? `plain: ${it.reason}` : it.unit));
}

describe('the compiler', () => {
  test('inlines calls, also those in called computations', () => {
    const twice = body((it) => call(plus(1), [call(plus(2), [it])]));
    expect(unitsOf(call(twice, [call(twice, [x])]))).toEqual(['vpu']);
  });
  test('joins what a call and its caller both compute', () => {
    const { entry } = cse(canonicalize(b.module('m', [x], b.tuple([call(plus(1), [x]), same]))));
    expect(entry.root.operands[0]).toBe(entry.root.operands[1]);
  });
  test('takes a map into fused loops, and needs no code for a barrier', () => {
    const plane = b.iota(arrayShape('s32', [4, 8]), 0);
    expect(unitsOf(b.negate(scalarMap([b.negate(plane)], plus(1))))).toEqual(['vpu']);
    expect(unitsOf(b.negate(optBarrier(b.negate(x))))).toEqual(['vpu', 'vpu']);
  });
  test('leaves loops, branches and sorts to plain code', () => {
    const none = 'plain: an executable has no programs inside';
    expect(unitsOf(whileLoop(x, below(9), plus(1)))).toEqual([none]);
    expect(unitsOf(conditional(p, [plus(1), plus(2)], [x, x]))).toEqual([none]);
    const line = b.broadcastScalar(x, [4]);
    const sorts = 'plain: no unit of the core sorts';
    expect(unitsOf(sort([line], 0, order('LT')))).toEqual(['vpu', sorts]);
    expect(unitsOf(topk(line, 2))).toEqual(['vpu', sorts]);
  });
  test('looks at no element behind a barrier', () => {
    const barrier = optBarrier(b.tuple([x, b.scalar('s32', 1)]));
    const sum = b.add(b.getTupleElement(barrier, 0), b.getTupleElement(barrier, 1));
    const { entry } = simplify(b.module('m', [x], sum));
    expect(entry.root).toBe(sum);
  });
  test('finds all computations that control instructions call', () => {
    for (const [, make] of variants) {
      const found = computationsOf(b.computation('main', [x, p], make(1)));
      expect(found.length).toBeGreaterThan(1);
    }
    const nested = whileLoop(
      x,
      below(9),
      body((it) => call(plus(3), [it])),
    );
    expect(computationsOf(b.computation('main', [x], nested))).toHaveLength(4);
  });
});

describe('a value differs between cores', () => {
  const fed = b.getTupleElement(b.infeed(b.afterAll(), s32), 0);
  test.each<[string, HloInstruction]>([
    ['a while that starts with it', whileLoop(fed, below(9), plus(1))],
    ['a while whose body gets it', carried(b.tuple([x, fed]))],
    ['a conditional on it', conditional(fed, [plus(1), plus(2)], [x, x])],
    ['a conditional of it', conditional(p, [plus(1), plus(2)], [x, fed])],
    ['a call of it', call(plus(1), [fed])],
    ['a barrier', optBarrier(fed)],
    ['a map of it', scalarMap([fed], plus(1))],
    ['a topk of it', topk(b.reshape(fed, [1]), 1)],
    // The verifier refuses this one. Other opcodes may make cores differ inside of computations.
    [
      'a call of a computation in which it is made',
      call(
        body(() => fed),
        [x],
      ),
    ],
    [
      'a while whose body calls such a computation',
      whileLoop(
        x,
        below(9),
        body((it) =>
          call(
            body(() => fed),
            [it],
          ),
        ),
      ),
    ],
  ])('in %s', (_, it) => {
    expect(variesByCore([it]).has(it)).toBe(true);
  });
  test.each(variants)('not in %s of equal values', (_, make) => {
    expect(variesByCore([make(1)]).has(make(1))).toBe(false);
  });
});

/** A loop over a pair whose body adds the second element to the first one. */
function carried(init: HloInstruction): HloInstruction {
  const v = b.parameter(0, tupleShape([s32, s32]));
  const [y, z] = [0, 1].map((i) => b.getTupleElement(v, i));
  const less = b.computation('less', [v], b.compare('LT', y!, b.scalar('s32', 9)));
  return whileLoop(init, less, b.computation('step', [v], b.tuple([b.add(y!, z!), z!])));
}

describe('the work', () => {
  const plane = b.parameter(0, arrayShape('s32', [4, 8]));
  test('of a call is that of its computation, of a conditional that of its dearest branch', () => {
    const twice = body((it) => b.add(b.add(it, it), it));
    expect(flopsOf(call(twice, [x]))).toBe(2);
    expect(flopsOf(conditional(p, [plus(1), twice], [x, x]))).toBe(2);
  });
  test('of a loop is that of its trips if their number is known, else that of one trip', () => {
    const loop = (start: HloInstruction): HloInstruction => {
      const one = b.scalar('s32', 1);
      return carried(b.tuple([start, one]));
    };
    expect(flopsOf(loop(b.scalar('s32', 4)))).toBe(5 * 2);
    expect(flopsOf(loop(x))).toBe(2);
  });
  test('of a sort is a comparison for each element and merge', () => {
    expect(flopsOf(sort([plane], 1, order('LT')))).toBe(32 * 3);
    expect(flopsOf(sort([plane], 0, order('LT')))).toBe(32 * 2);
    expect(flopsOf(topk(plane, 2))).toBe(32 * 3);
  });
  test('of a map is that of its computation for each element', () => {
    expect(
      flopsOf(
        scalarMap(
          [plane],
          body((it) => b.add(b.add(it, it), it)),
        ),
      ),
    ).toBe(64);
  });
});

test('all trips of a random loop cost the same', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 9 }), (start) => {
      expect(flopsOf(carried(b.tuple([b.scalar('s32', start), b.scalar('s32', 1)])))).toBe(
        (9 - start) * 2,
      );
    }),
  );
});
