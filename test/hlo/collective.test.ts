import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { gradient } from '../../src/autodiff/gradient.ts';
import * as b from '../../src/hlo/build.ts';
import * as c from '../../src/hlo/build-collective.ts';
import { evaluateReplicas } from '../../src/hlo/evaluate.ts';
import type { HloInstruction } from '../../src/hlo/instruction.ts';
import type { ReplicaGroups } from '../../src/hlo/ops/groups.ts';
import { parse } from '../../src/hlo/parse.ts';
import { print } from '../../src/hlo/print.ts';
import { literal, valuesOf } from '../../src/numerics/literal.ts';
import { arrayShape } from '../../src/numerics/shape.ts';
import { difference } from './same.ts';

/** Replicas in groups of one size, in any order, with the operands of all replicas. */
interface Case {
  readonly groups: readonly (readonly number[])[];
  /** `operands[replica][row][column]`: small integers, so that every sum of them is exact. */
  readonly operands: readonly (readonly (readonly number[])[])[];
}

/** Draws a case in which `rows` is a multiple of the size of a group, so that parts exist. */
const cases = fc
  .record({
    groupCount: fc.integer({ min: 1, max: 3 }),
    size: fc.integer({ min: 1, max: 4 }),
    rowsOfPart: fc.integer({ min: 1, max: 2 }),
    columns: fc.integer({ min: 1, max: 3 }),
    seed: fc.nat(),
  })
  .map(({ groupCount, size, rowsOfPart, columns, seed }): Case => {
    let state = seed >>> 0;
    const draw = (n: number): number => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return (state >>> 8) % n;
    };
    const count = groupCount * size;
    const left = Array.from({ length: count }, (_, i) => i);
    const shuffled = Array.from({ length: count }, () => left.splice(draw(left.length), 1)[0]!);
    return {
      groups: Array.from({ length: groupCount }, (_, g) =>
        shuffled.slice(g * size, (g + 1) * size),
      ),
      operands: shuffled.map(() =>
        Array.from({ length: size * rowsOfPart }, () =>
          Array.from({ length: columns }, () => draw(64) - 32),
        ),
      ),
    };
  });

/** The result of one replica, as rows. */
type Rows = readonly (readonly number[])[];
type Oracle = (it: Case, group: readonly number[], member: number) => Rows;

const part = (rows: Rows, index: number, count: number): Rows =>
  rows.slice((index * rows.length) / count, ((index + 1) * rows.length) / count);

const sum: Oracle = ({ operands }, group) =>
  operands[group[0]!]!.map((row, r) =>
    row.map((_, k) => group.reduce((total, replica) => total + operands[replica]![r]![k]!, 0)),
  );

/** Each collective with what it gives to member `member` of a group, by its definition. */
const collectives: readonly (readonly [
  string,
  (x: HloInstruction, groups: ReplicaGroups, size: number) => HloInstruction,
  Oracle,
])[] = [
  ['all-reduce', (x, groups) => b.allReduce(x, undefined, groups), sum],
  [
    'all-gather',
    (x, groups, size) => c.allGather(x, size, { dimension: 0, groups }),
    ({ operands }, group) => group.flatMap((replica) => operands[replica]!),
  ],
  [
    'reduce-scatter',
    (x, groups, size) => c.reduceScatter(x, size, { dimension: 0, groups }),
    (it, group, member) => part(sum(it, group, member), member, group.length),
  ],
  [
    'all-to-all',
    (x, groups) => c.allToAll(x, { dimension: 0, groups }),
    ({ operands }, group, member) =>
      group.flatMap((replica) => part(operands[replica]!, member, group.length)),
  ],
  [
    'collective-broadcast',
    (x, groups) => c.collectiveBroadcast(x, groups),
    ({ operands }, group) => operands[group[0]!]!,
  ],
];

function parameterOf({ operands: [first] }: Case): ReturnType<typeof b.parameter> {
  return b.parameter(0, arrayShape('f32', [first!.length, first![0]!.length]));
}

/** Runs a program on all replicas of a case, and returns the flat result of each. */
function run(it: Case, root: HloInstruction, parameter = parameterOf(it)): number[][] {
  const module = b.module('m', [parameter], root);
  const replicas = it.operands.map((rows) => ({
    parameters: [literal('f32', [rows.length, rows[0]!.length], rows.flat())],
  }));
  return evaluateReplicas(module, replicas).map(({ values }) => valuesOf(values[0]!));
}

describe.each(collectives)('%s', (name, build, oracle) => {
  test('gives each member of each group what the definition says', () => {
    fc.assert(
      fc.property(cases, (it) => {
        const x = parameterOf(it);
        const found = run(it, build(x, it.groups, it.groups[0]!.length), x);
        for (const group of it.groups) {
          group.forEach((replica, member) => {
            expect(found[replica]).toEqual(oracle(it, group, member).flat());
          });
        }
      }),
      { numRuns: 60 },
    );
  });

  test('without groups works on all replicas, in order', () => {
    fc.assert(
      fc.property(cases, (drawn) => {
        const group = drawn.groups[0]!.map((_, i) => i);
        const it = { groups: [group], operands: drawn.operands.slice(0, group.length) };
        const x = parameterOf(it);
        const found = run(it, build(x, [], group.length), x);
        group.forEach((replica, member) => {
          expect(found[replica]).toEqual(oracle(it, group, member).flat());
        });
      }),
      { numRuns: 20 },
    );
  });

  test('has a text that is read again', () => {
    const x = b.parameter(0, arrayShape('f32', [4, 3]));
    for (const groups of [
      [],
      [[1, 0]],
      [
        [3, 1],
        [0, 2],
      ],
    ]) {
      const module = b.module('m', [x], build(x, groups, 2));
      expect(difference(module, parse(print(module)))).toBeUndefined();
    }
  });

  test('refuses groups that are no partition of the replicas', () => {
    const it: Case = {
      groups: [],
      operands: [
        [[1], [2]],
        [[3], [4]],
      ],
    };
    const x = parameterOf(it);
    const wrong = (groups: ReplicaGroups) => () => run(it, build(x, groups, 2), x);
    expect(wrong([[0, 0]])).toThrow('each replica in one group only');
    expect(wrong([[0], []])).toThrow('groups of one size, 1 or more');
    expect(wrong([[0, 2]])).toThrow(`${name}: expected groups of the replicas 0 to 1, found`);
    expect(wrong([[0, -1]])).toThrow('replicas with numbers of 0 or more');
  });
});

/** Derivatives are linear: Σ over replicas of ⟨f(x), y⟩ must be that of ⟨x, f'(y)⟩. */
test.each(collectives.filter(([name]) => name !== 'collective-broadcast'))(
  'the derivative of %s is its adjoint',
  (_, build) => {
    fc.assert(
      fc.property(cases, (it) => {
        const x = parameterOf(it);
        const y = build(x, it.groups, it.groups[0]!.length);
        const weights = b.iota(y.shape as ReturnType<typeof arrayShape>, 0);
        const [dx] = gradient(b.reduceSum(b.multiply(y, weights), [0, 1]), [x]);
        const forward = run(it, b.reduceSum(b.multiply(y, weights), [0, 1]), x);
        const backward = run(it, b.reduceSum(b.multiply(x, dx!), [0, 1]), x);
        const total = (values: number[][]): number => values.flat().reduce((s, v) => s + v, 0);
        expect(total(backward)).toBe(total(forward));
      }),
      { numRuns: 40 },
    );
  },
);

describe('collective-permute', () => {
  const it: Case = { groups: [], operands: [[[1]], [[2]], [[3]], [[4]]] };
  const x = parameterOf(it);

  test('sends values from sources to targets, and zeros to all others', () => {
    expect(
      run(
        it,
        c.collectivePermute(x, [
          [0, 1],
          [1, 3],
          [3, 3 - 1],
        ]),
        x,
      ),
    ).toEqual([[0], [1], [4], [2]]);
  });
  test('has the reversed pairs as its derivative', () => {
    const [dx] = gradient(
      b.reduceSum(
        c.collectivePermute(x, [
          [0, 2],
          [2, 1],
        ]),
        [0, 1],
      ),
      [x],
    );
    expect(run(it, dx!, x)).toEqual([[1], [0], [1], [0]]);
  });
  test('refuses a replica twice, and one that does not exist', () => {
    const wrong = 'each replica once as source and once as target';
    expect(() =>
      c.collectivePermute(x, [
        [0, 1],
        [0, 2],
      ]),
    ).toThrow(wrong);
    expect(() =>
      c.collectivePermute(x, [
        [0, 1],
        [2, 1],
      ]),
    ).toThrow(wrong);
    expect(() => run(it, c.collectivePermute(x, [[0, 4]]), x)).toThrow('from 0 to 3, not 4');
  });
  test('has a text that is read again', () => {
    const module = b.module(
      'm',
      [x],
      c.collectivePermute(x, [
        [0, 1],
        [1, 0],
      ]),
    );
    expect(print(module)).toContain('source_target_pairs={{0,1},{1,0}}');
    expect(difference(module, parse(print(module)))).toBeUndefined();
  });
});

test.each([
  ['[2,2]<=[4]', '{{0,1},{2,3}}'],
  ['[2,4]<=[4,2]T(1,0)', '{{0,2,4,6},{1,3,5,7}}'],
  ['[4,3]<=[2,3,2]T(0,2,1)', '{{0,2,4},{1,3,5},{6,8,10},{7,9,11}}'],
])('groups that XLA counts, %s, are read', (counted, listed) => {
  const text = (groups: string): string => `HloModule m
add { a = s32[] parameter(0)
  b = s32[] parameter(1)
  ROOT c = s32[] add(a, b) }
ENTRY main { x = s32[2] parameter(0)
  ROOT y = s32[2] all-reduce(x), channel_id=1, replica_groups=${groups}, use_global_device_ids=true, to_apply=add }`;
  expect(print(parse(text(counted)))).toBe(print(parse(text(listed))));
  expect(print(parse(text(counted)))).toContain(`replica_groups=${listed}`);
  expect(() => parse(text('[2,2]<=[5]'))).toThrow('expected groups such as [2,4]<=[4,2]T(1,0)');
});
