import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import * as b from '../../src/hlo/build.ts';
import { sort, topk } from '../../src/hlo/build-ordering.ts';
import type { HloComputation, HloInstruction } from '../../src/hlo/instruction.ts';
import { typesOfKind } from '../../src/hlo/ops/check.ts';
import { parse } from '../../src/hlo/parse.ts';
import { print } from '../../src/hlo/print.ts';
import { at } from '../../src/numerics/assert.ts';
import { computedTypes, type ElementType, type Scalar } from '../../src/numerics/element-type.ts';
import {
  bytesOf,
  type Literal,
  literal,
  literalOfBytes,
  scalarsOf,
} from '../../src/numerics/literal.ts';
import { type ArrayShape, arrayShape, byteCount } from '../../src/numerics/shape.ts';
import { run } from './run.ts';

const pred = arrayShape('pred', []);

/** Compares the first elements of two groups with LT or GT. */
function comparator(types: readonly ElementType[], direction: 'LT' | 'GT' = 'LT'): HloComputation {
  const parameters = types
    .flatMap((type) => [type, type])
    .map((type, i) => b.parameter(i, arrayShape(type, [])));
  return b.computation(
    'before',
    parameters,
    b.compare(direction, at(parameters, 0), at(parameters, 1)),
  );
}

const seeded = (shape: ArrayShape): fc.Arbitrary<Literal> =>
  fc
    .uint8Array({ minLength: byteCount(shape), maxLength: byteCount(shape) })
    .map((bytes) => literalOfBytes(shape, bytes));

/** Few different values, so that many elements are equal. */
const small = (shape: ArrayShape): fc.Arbitrary<Literal> =>
  fc.array(fc.integer({ min: 0, max: 3 }), { minLength: 25, maxLength: 25 }).map((list) =>
    literal(
      shape.type,
      shape.dims,
      list.slice(
        0,
        shape.dims.reduce((n, d) => n * d, 1),
      ),
    ),
  );

const cases = fc
  .record({
    dims: fc.array(fc.integer({ min: 0, max: 4 }), { minLength: 1, maxLength: 2 }),
    type: fc.constantFrom(...computedTypes.filter((type) => type !== 'pred')),
    dimension: fc.nat(),
  })
  .map(({ dims, type, dimension }) => ({ dims, type, dimension: dimension % dims.length }));

/** All lines of an array along a dimension: for each, the row-major offsets of its elements. */
function linesOf(dims: readonly number[], dimension: number): number[][] {
  const lines = new Map<string, number[]>();
  const count = dims.reduce((n, d) => n * d, 1);
  for (let flat = 0; flat < count; flat++) {
    let rest = flat;
    const index = dims.map(() => 0);
    for (let d = dims.length - 1; d >= 0; d--) {
      index[d] = rest % dims[d]!;
      rest = Math.floor(rest / dims[d]!);
    }
    const key = index.with(dimension, 0).join();
    lines.set(key, [...(lines.get(key) ?? []), flat]);
  }
  return [...lines.values()];
}

describe('a sort', () => {
  test('puts each line in order and keeps the order of equal groups, by counting', () => {
    fc.assert(
      fc.property(
        cases.chain(({ dims, type, dimension }) =>
          fc.record({
            x: small(arrayShape(type, dims)),
            dimension: fc.constant(dimension),
            direction: fc.constantFrom('LT' as const, 'GT' as const),
          }),
        ),
        ({ x, dimension, direction }) => {
          const { type, dims } = x.shape;
          const tags = literal(
            's32',
            dims,
            [...x.data].map((_, i) => i),
          );
          const body = comparator([type, 's32'], direction);
          const [keys, from] = run((xs) => sort(xs, dimension, body), [x, tags]);
          const values = scalarsOf(x);
          const before = (p: number, q: number): boolean => {
            const [a, c] = [values[p]!, values[q]!];
            return a === c ? p < q : direction === 'LT' ? a < c : a > c;
          };
          // The place of an element in its line is the number of elements that come before it.
          const expected: number[] = [];
          for (const line of linesOf(dims, dimension)) {
            for (const p of line) {
              expected[line[line.filter((q) => before(q, p)).length]!] = p;
            }
          }
          expect(scalarsOf(from!)).toEqual(expected);
          expect(scalarsOf(keys!)).toEqual(expected.map((p) => values[p]));
        },
      ),
    );
  });

  test('moves elements without changing their bits, for every type', () => {
    const types = fc.constantFrom(...computedTypes.filter((type) => type !== 'pred'));
    fc.assert(
      fc.property(
        types.chain((type) =>
          fc.tuple(seeded(arrayShape(type, [6])), seeded(arrayShape('s8', [6]))),
        ),
        ([x, keys]) => {
          const body = comparator(['s8', x.shape.type]);
          const [, moved] = run((xs) => sort(xs, 0, body), [keys, x]);
          const words = ({ data }: Literal): string[] => {
            const bytes = Buffer.from(bytesOf({ data }));
            const width = data.BYTES_PER_ELEMENT;
            return [0, 1, 2, 3, 4, 5].map((i) =>
              bytes.subarray(i * width, (i + 1) * width).toString('hex'),
            );
          };
          expect(words(moved!).toSorted()).toEqual(words(x).toSorted());
        },
      ),
    );
  });

  test('gives the comparator the very bits of the elements', () => {
    const [p, q] = [0, 1].map((i) => b.parameter(i, arrayShape('f32', [])));
    const bits = (x: HloInstruction): HloInstruction => b.bitcastConvert(x, 'u32');
    const body = b.computation('by_bits', [p!, q!], b.compare('LT', bits(p!), bits(q!)));
    const words = Uint32Array.from([0x7fc00002, 0xffc00001, 0x7fc00001, 3]);
    const x = literalOfBytes(arrayShape('f32', [4]), new Uint8Array(words.buffer));
    const [sorted] = run(([it]) => sort([it!], 0, body), [x]);
    const found = new Uint32Array(bytesOf(sorted!).slice().buffer);
    expect([...found]).toEqual([3, 0x7fc00001, 0x7fc00002, 0xffc00001]);
  });

  test('with a comparator that is no order permutes the groups, always in the same way', () => {
    const parameters = [0, 1].map((i) => b.parameter(i, arrayShape('s32', [])));
    const always = b.computation('always', parameters, b.scalar('pred', 1));
    const x = literal('s32', [7], [5, 1, 4, 2, 6, 0, 3]);
    const sorted = (): Scalar[] =>
      scalarsOf(
        at(
          run(([it]) => sort([it!], 0, always), [x]),
          0,
        ),
      );
    expect(sorted()).toEqual(sorted());
    expect(sorted().toSorted()).toEqual([0, 1, 2, 3, 4, 5, 6]);
    expect(sorted()).toEqual([3, 0, 6, 2, 4, 1, 5]);
  });

  test('is printed as XLA prints it', () => {
    const x = b.parameter(0, arrayShape('f32', [2, 3]));
    const text = (isStable: boolean): string =>
      print(b.module('m', [x], sort([x], 1, comparator(['f32']), isStable)));
    expect(text(true)).toContain(
      'f32[2,3] sort(%parameter.0), dimensions={1}, is_stable=true, to_apply=%before',
    );
    expect(text(false)).toContain('sort(%parameter.0), dimensions={1}, to_apply=%before');
  });

  const x = b.parameter(0, arrayShape('f32', [2, 3]));
  const y = b.parameter(1, arrayShape('s32', [3, 2]));
  const both = b.computation(
    'both',
    [0, 1].map((i) => b.parameter(i, pred)),
    b.scalar('pred', 1),
  );
  test.each([
    ['no operand', () => sort([], 0, both), 'sort(): expected at least one operand'],
    [
      'a token',
      () => sort([b.afterAll()], 0, both),
      'sort(token[]): expected an array as operand 0',
    ],
    [
      'two sizes',
      () => sort([x, y], 0, both),
      'sort(f32[2,3], s32[3,2]): expected operands of one size',
    ],
    [
      'a dimension too many',
      () => sort([x], 2, comparator(['f32'])),
      'sort(f32[2,3]): expected a dimension below 2',
    ],
    [
      'a comparator of another type',
      () => sort([x], 1, both),
      'sort(f32[2,3]): expected both to be (f32[], f32[]) -> pred[], not (pred[], pred[]) -> pred[]',
    ],
    [
      'a comparator of too few operands',
      () => sort([x, x], 1, comparator(['f32'])),
      'sort(f32[2,3], f32[2,3]): expected before to be (f32[], f32[], f32[], f32[]) -> pred[], not (f32[], f32[]) -> pred[]',
    ],
  ])('of %s is refused', (_, make, message) => {
    expect(make).toThrow(message);
  });

  test('along two dimensions is refused', () => {
    const text = print(b.module('m', [x], sort([x], 1, comparator(['f32']))));
    expect(() => parse(text.replace('dimensions={1}', 'dimensions={0,1}'))).toThrow(
      'expected one dimension, found "{"',
    );
  });
});

describe('a topk', () => {
  test('finds the elements that fewer than k others beat, for every type', () => {
    fc.assert(
      fc.property(
        fc
          .record({
            dims: fc.array(fc.integer({ min: 0, max: 5 }), { minLength: 1, maxLength: 2 }),
            type: fc.constantFrom(...typesOfKind('number')),
            k: fc.nat(),
            largest: fc.boolean(),
          })
          .chain(({ dims, type, ...rest }) => {
            const shape = arrayShape(type, dims);
            return fc.record({ ...constants(rest), x: fc.oneof(small(shape), seeded(shape)) });
          }),
        ({ x, k: drawn, largest }) => {
          const { dims } = x.shape;
          const size = dims.at(-1)!;
          const k = drawn % (size + 1);
          const [values, found] = run(([it]) => topk(it!, k, largest), [x]);
          const expected: { place: number; index: number }[] = [];
          for (const line of linesOf(dims, dims.length - 1)) {
            const beats = (p: number, q: number): boolean => {
              const order = compareTotal(x, line[p]!, line[q]!);
              return order === 0 ? p < q : order > 0 === largest;
            };
            const all = line.map((_, i) => i);
            for (let rank = 0; rank < k; rank++) {
              const index = all.find((p) => all.filter((q) => beats(q, p)).length === rank)!;
              expected.push({ index, place: line[index]! });
            }
          }
          expect(scalarsOf(found!)).toEqual(expected.map(({ index }) => index));
          expect([...values!.data]).toEqual(expected.map(({ place }) => x.data[place]));
        },
      ),
      { numRuns: 300 },
    );
  });

  test('orders NaN, infinities and zeros by IEEE 754', () => {
    const values = [0, Number.NaN, -0, Infinity, 1, -Infinity];
    const x = literal('f32', [6], values);
    const indices = (largest: boolean): Scalar[] =>
      scalarsOf(
        at(
          run(([it]) => topk(it!, 6, largest), [x]),
          1,
        ),
      );
    expect(indices(true)).toEqual([1, 3, 4, 0, 2, 5]);
    expect(indices(false)).toEqual([5, 2, 0, 4, 3, 1]);
  });

  test('is printed as XLA prints it', () => {
    const x = b.parameter(0, arrayShape('bf16', [2, 3]));
    expect(print(b.module('m', [x], topk(x, 2)))).toContain(
      '(bf16[2,2], s32[2,2]) topk(%parameter.0), k=2, largest=true',
    );
  });

  const x = b.parameter(0, arrayShape('f32', [2, 3]));
  test.each([
    ['too many', () => topk(x, 4), 'topk(f32[2,3]): expected k of at most 3, not 4'],
    ['less than none', () => topk(x, -1), 'topk(f32[2,3]): expected k of at most 3, not -1'],
    [
      'a scalar',
      () => topk(b.scalar('f32', 1), 1),
      'topk(f32[]): expected an array with a dimension, not a scalar',
    ],
    [
      'preds',
      () => topk(b.parameter(0, arrayShape('pred', [3])), 1),
      'topk(pred[3]): expected elements of a signed or unsigned or float type, not pred',
    ],
  ])('of %s is refused', (_, make, message) => {
    expect(make).toThrow(message);
  });
});

function constants<T extends object>(fields: T): { [K in keyof T]: fc.Arbitrary<T[K]> } {
  const entries = Object.entries(fields).map(([key, value]) => [key, fc.constant(value)]);
  return Object.fromEntries(entries) as { [K in keyof T]: fc.Arbitrary<T[K]> };
}

/** Compares two elements in the total order of IEEE 754: by sign, then by magnitude. */
function compareTotal(x: Literal, p: number, q: number): number {
  const [a, c] = [p, q].map((i) => keyOf(x, i));
  return a! < c! ? -1 : a! > c! ? 1 : 0;
}

function keyOf(x: Literal, i: number): bigint {
  const { type } = x.shape;
  if (!/^(bf|f)/.test(type)) return BigInt(scalarsOf(x)[i]!);
  const width = x.data.BYTES_PER_ELEMENT;
  const bytes = bytesOf(x).slice(i * width, (i + 1) * width);
  const word = bytes.reduceRight((sum, byte) => sum * 256n + BigInt(byte), 0n);
  const sign = 1n << BigInt(8 * width - 1);
  return word < sign ? word : -(word - sign) - 1n;
}
