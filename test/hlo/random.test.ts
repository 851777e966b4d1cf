import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import * as b from '../../src/hlo/build.ts';
import { stochasticConvert } from '../../src/hlo/build-random.ts';
import type { RngBitGenerator } from '../../src/hlo/instruction.ts';
import { typesOfKind } from '../../src/hlo/ops/check.ts';
import { parse } from '../../src/hlo/parse.ts';
import { print } from '../../src/hlo/print.ts';
import { at } from '../../src/numerics/assert.ts';
import { type ElementType, elementTypes, type Scalar } from '../../src/numerics/element-type.ts';
import { bitsFromF32, f32FromBits } from '../../src/numerics/f32-ops.ts';
import {
  encoderOf,
  type Literal,
  literal,
  literalOfBytes,
  scalarsOf,
  valuesOf,
} from '../../src/numerics/literal.ts';
import { type ArrayShape, arrayShape, byteCount } from '../../src/numerics/shape.ts';
import { run } from './run.ts';

type Algorithm = RngBitGenerator['algorithm'];

function drawn(
  algorithm: Algorithm,
  state: Literal,
  bits: ArrayShape,
): { next: Literal; words: Scalar[] } {
  const [next, words] = run(([x]) => b.rngBitGenerator(x!, bits, algorithm), [state]);
  return { next: next!, words: scalarsOf(words!) };
}

const [fry, philox, usual] = ['rng_three_fry', 'rng_philox', 'rng_default'] as const;
const key = 0x0123456789abcdefn;
const two = [key, 2n ** 64n - 2n];
const three = [...two, 2n ** 64n - 1n];

/** What XLA's CPU backend gives (jax 0.10.2): counter of the next state, and the random bits. */
const ofXla: readonly (readonly [
  Algorithm,
  readonly bigint[],
  ElementType,
  readonly number[],
  readonly bigint[],
  readonly Scalar[],
])[] = [
  [fry, two, 'u32', [], [2n ** 64n - 1n], [0xb0f4215b]],
  [fry, two, 'u32', [5], [1n], [0xb0f4215b, 0xe19a60b4, 0xb3d7494, 0xacf8c4dc, 0xaaa4d889]],
  [
    fry,
    two,
    'u32',
    [2, 3],
    [1n],
    [0xb0f4215b, 0xb3d7494, 0xaaa4d889, 0xe19a60b4, 0xacf8c4dc, 0x6b35c4f4],
  ],
  [
    fry,
    two,
    'u32',
    [2, 4],
    [2n],
    [
      ...[0xb0f4215b, 0xb3d7494, 0xaaa4d889, 0x75a52907],
      ...[0xe19a60b4, 0xacf8c4dc, 0x6b35c4f4, 0xd3dd8613],
    ],
  ],
  [fry, two, 'u32', [3, 1], [0n], [0xb0f4215b, 0xe19a60b4, 0xb3d7494]],
  [
    fry,
    two,
    'u32',
    [1, 3, 3],
    [4n],
    [
      ...[0xb0f4215b, 0xb3d7494, 0xaaa4d889, 0xe19a60b4, 0xacf8c4dc],
      ...[0x6b35c4f4, 0x75a52907, 0x35d0e5f1, 0x7c2f19d8],
    ],
  ],
  [fry, two, 'u8', [4], [0n], [0x5b, 0xb4, 0x94, 0xdc]],
  [fry, two, 's16', [3], [0n], [0x215b, 0x60b4, 0x7494]],
  [
    fry,
    two,
    'u64',
    [2, 2],
    [2n],
    [0xe19a60b4b0f4215bn, 0xacf8c4dc0b3d7494n, 0x6b35c4f4aaa4d889n, 0xd3dd861375a52907n],
  ],
  [philox, two, 'u32', [], [2n ** 64n - 1n], [0xa485194]],
  [philox, two, 'u32', [5], [0n], [0xa485194, 0x41c5f806, 0xd6822fee, 0x3885a3d4, 0x41eb59f3]],
  [philox, two, 'u8', [2, 2], [2n ** 64n - 1n], [0x94, 0x6, 0xee, 0xd4]],
  [philox, two, 's64', [3], [0n], [0x41c5f8060a485194n, 0x3885a3d4d6822feen, 0x307385e041eb59f3n]],
  [
    usual,
    three,
    'u32',
    [13],
    [2n, 0n],
    [
      ...[0x600c42b0, 0x796f0a9a, 0x9ac71906, 0x8f6750cb, 0x2d8e471b, 0xf578e809, 0xf781a438],
      ...[0x6aaccdbf, 0xb850222e, 0xc58cb04b, 0x14a7a020, 0x7a84fff9, 0xadca1466],
    ],
  ],
  [
    usual,
    three,
    'u64',
    [3],
    [0n, 0n],
    [0x796f0a9a600c42b0n, 0x8f6750cb9ac71906n, 0xf578e8092d8e471bn],
  ],
];

const algorithms = fc.constantFrom(fry, philox, usual);
const dimensions = fc.array(fc.integer({ min: 0, max: 5 }), { maxLength: 3 });
const u64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });

describe('an rng-bit-generator', () => {
  test.each(ofXla)('%s of %s gives the bits of XLA as %s%s', (...given) => {
    const [algorithm, state, type, dims, counter, words] = given;
    const found = drawn(algorithm, literal('u64', [state.length], state), arrayShape(type, dims));
    expect(found.words).toEqual(words);
    expect(scalarsOf(found.next)).toEqual([key, ...counter]);
  });

  test('makes integers of fewer bits from the lower bits of u32', () => {
    fc.assert(
      fc.property(
        algorithms,
        fc.tuple(u64, u64),
        dimensions,
        fc.constantFrom(...typesOfKind('integer').filter((it) => elementTypes[it].bits < 32)),
        (algorithm, words, dims, type) => {
          const state = literal('u64', [2], words);
          const whole = drawn(algorithm, state, arrayShape('u32', dims));
          const narrow = drawn(algorithm, state, arrayShape(type, dims));
          expect(narrow.words).toEqual(whole.words.map((word) => encoderOf(type)(word)));
          expect(narrow.next).toEqual(whole.next);
        },
      ),
    );
  });

  test('with the state u32[4] equals u64[2], except for the upper counter of Philox', () => {
    fc.assert(
      fc.property(algorithms, fc.tuple(u64, u64), dimensions, (algorithm, [k, c], dims) => {
        const shape = arrayShape('u32', dims);
        const words = [k & 0xffff_ffffn, k >> 32n, c & 0xffff_ffffn, c >> 32n];
        const narrow = drawn(algorithm, literal('u32', [4], words.map(Number)), shape);
        const isFry = algorithm === fry;
        const wide = isFry ? literal('u64', [2], [k, c]) : literal('u64', [3], [k, c, 0n]);
        // The counter of u32[4] has 64 bits, so that it starts again where the one of u64[3] goes on.
        fc.pre(isFry || c < 2n ** 64n - 99n);
        const whole = drawn(algorithm, wide, shape);
        expect(narrow.words).toEqual(whole.words);
        const next = scalarsOf(narrow.next).map(BigInt);
        expect([next[0]! | (next[1]! << 32n), next[2]! | (next[3]! << 32n)]).toEqual(
          scalarsOf(whole.next).slice(0, 2),
        );
      }),
    );
  });

  test('goes on with the next state: whole blocks, then the rest', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(
          [philox, 'u32', 4] as const,
          [philox, 'u64', 2] as const,
          [fry, 'u64', 1] as const,
        ),
        fc.tuple(u64, u64, u64),
        fc.nat(4),
        fc.nat(9),
        ([algorithm, type, perBlock], state, blocks, more) => {
          const first = literal(
            'u64',
            [algorithm === fry ? 2 : 3],
            state.slice(0, algorithm === fry ? 2 : 3),
          );
          const some = drawn(algorithm, first, arrayShape(type, [blocks * perBlock]));
          const rest = drawn(algorithm, some.next, arrayShape(type, [more]));
          const all = drawn(algorithm, first, arrayShape(type, [blocks * perBlock + more]));
          expect([...some.words, ...rest.words]).toEqual(all.words);
          expect(rest.next).toEqual(all.next);
        },
      ),
    );
  });

  const state = (type: ElementType, n: number) => b.parameter(0, arrayShape(type, [n]));
  const u32 = arrayShape('u32', [3]);
  test.each([
    [
      'three words',
      () => b.rngBitGenerator(state('u32', 3), u32),
      'expected a state u32[4] or u64[2] or u64[3] for rng_philox',
    ],
    [
      'a long state of Threefry',
      () => b.rngBitGenerator(state('u64', 3), u32, fry),
      'expected a state u32[4] or u64[2] for rng_three_fry',
    ],
    [
      'floats',
      () => b.rngBitGenerator(state('u64', 2), arrayShape('f32', [3])),
      'expected elements of a signed or unsigned type, not f32',
    ],
    [
      'preds',
      () => b.rngBitGenerator(state('u64', 2), arrayShape('pred', [3])),
      'expected elements of a signed or unsigned type, not pred',
    ],
  ])('of %s is refused', (_, make, message) => {
    expect(make).toThrow(message);
  });

  test('with an unknown algorithm, or another state as result, is refused', () => {
    const text = print(b.module('m', [state('u64', 2)], b.rngBitGenerator(state('u64', 2), u32)));
    expect(() => parse(text.replace('rng_philox', 'rng_dice'))).toThrow(
      'expected rng_philox or rng_three_fry or rng_default, found "rng_dice"',
    );
    expect(() => parse(text.replaceAll('(u64[2], u32[3])', '(u64[3], u32[3])'))).toThrow(
      'expected a result (u64[2], bits), not (u64[3], u32[3])',
    );
  });
});

const seeded = (shape: ArrayShape): fc.Arbitrary<Literal> =>
  fc
    .uint8Array({ minLength: byteCount(shape), maxLength: byteCount(shape) })
    .map((bytes) => literalOfBytes(shape, bytes));

function converted(x: Literal, random: Literal, type: ElementType): Scalar[] {
  const [found] = run(([p, q]) => stochasticConvert(p!, q!, type), [x, random]);
  return scalarsOf(found!);
}

describe('a stochastic-convert', () => {
  test('from f32 to bf16 adds the lower bits to the random bits, and keeps the carry', () => {
    fc.assert(
      fc.property(seeded(arrayShape('f32', [8])), seeded(arrayShape('u32', [8])), (x, random) => {
        const expected = valuesOf(x).map((value, i) => {
          const bits = bitsFromF32(value) >>> 0;
          const [upper, lower] = [bits & 0xffff0000, bits & 0xffff];
          // The upper bits of a NaN may be those of an infinity, but it stays a NaN.
          if (Number.isNaN(value)) return value;
          const next = f32FromBits(upper + (at(valuesOf(random), i) < lower * 65536 ? 0x10000 : 0));
          // A bf16 below the smallest normal number becomes 0.
          if (Math.abs(next) < 2 ** -126) return value < 0 || Object.is(value, -0) ? -0 : 0;
          // Beyond the largest bf16 there is no neighbour.
          return Math.abs(value) > f32FromBits(0x7f7f0000) ? undefined : next;
        });
        converted(x, random, 'bf16').forEach((value, i) => {
          if (expected[i] !== undefined) expect(value).toEqual(expected[i]);
        });
      }),
    );
  });

  test('rounds up as often as its distance says, over all random bits', () => {
    const all = Array.from({ length: 256 }, (_, r) => r);
    const random = literal('u8', [256], all);
    const mean = (value: number, type: ElementType): number => {
      const x = literal(
        'f8e4m3',
        [256],
        all.map(() => value),
      );
      const found = converted(x, random, type).map(Number);
      return found.reduce((sum, it) => sum + it, 0) / 256;
    };
    for (const value of [0, 0.25, -0.25, 1.5, -2.75, 7.5, -6.5, 5]) {
      expect(mean(value, 's8')).toBe(value);
      expect(mean(value, 's32')).toBe(value);
      expect(mean(value, 's64')).toBe(value);
      expect(mean(value, 'f8e5m2')).toBe(value);
      expect(mean(value, 'f32')).toBe(value);
    }
  });

  test('gives an integer next to the value, within the range', () => {
    const types = ['s4', 's8', 's16', 's32', 's64'] as const;
    const sources = [
      ['f32', 'u32'],
      ['f16', 'u16'],
      ['bf16', 'u16'],
    ] as const;
    fc.assert(
      fc.property(
        fc
          .constantFrom(...sources)
          .chain(([from, bits]) =>
            fc.tuple(seeded(arrayShape(from, [8])), seeded(arrayShape(bits, [8]))),
          ),
        fc.constantFrom(...types),
        ([x, random], type) => {
          const most = 2n ** BigInt(elementTypes[type].bits - 1) - 1n;
          converted(x, random, type).forEach((found, i) => {
            const value = at(valuesOf(x), i);
            if (Number.isNaN(value)) expect(Number(found)).toBe(0);
            else if (value >= Number(most)) expect(BigInt(found)).toBe(most);
            else if (value <= -Number(most) - 1) expect(BigInt(found)).toBe(-most - 1n);
            else expect([Math.floor(value), Math.ceil(value)]).toContain(Number(found) + 0);
          });
        },
      ),
    );
  });

  test('makes of values beyond the largest float what convert makes of them', () => {
    const values = [3.4e38, -3.4e38, Infinity, -Infinity, Number.NaN];
    const x = literal('f32', [5], values);
    const random = literal(
      'u32',
      [5],
      values.map(() => 0),
    );
    for (const type of ['f16', 'bf16', 'f8e4m3fn', 'f8e5m2', 'f8e4m3fnuz'] as const) {
      const [plain] = run(([p]) => b.convert(p!, type), [x]);
      const found = converted(x, random, type);
      expect(found).toEqual(scalarsOf(plain!));
    }
  });

  const x = b.parameter(0, arrayShape('f32', [3]));
  const random = (type: ElementType, n = 3) => b.parameter(1, arrayShape(type, [n]));
  test.each([
    [
      'integers',
      () => stochasticConvert(random('u32'), random('u32'), 's8'),
      'expected elements of a float type, not u32',
    ],
    [
      'too few bits',
      () => stochasticConvert(x, random('u16'), 's8'),
      'expected random bits as u32, not u16',
    ],
    [
      'signed bits',
      () => stochasticConvert(x, random('s32'), 's8'),
      'expected random bits as u32, not s32',
    ],
    [
      'too few elements',
      () => stochasticConvert(x, random('u32', 2), 's8'),
      'expected random bits of the size of the value',
    ],
    [
      'no signed result',
      () => stochasticConvert(x, random('u32'), 'u8'),
      'expected elements of a signed or float type, not u8',
    ],
  ])('of %s is refused', (_, make, message) => {
    expect(make).toThrow(message);
  });

  test('is printed as XLA prints it', () => {
    const words = random('u32');
    const text = print(b.module('m', [x, words], stochasticConvert(x, words, 's8')));
    expect(text).toContain('s8[3] stochastic-convert(%parameter.0, %parameter.1)\n');
  });
});
