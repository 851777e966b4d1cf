import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { enableRelaxedSimd } from '../../src/chip/engine.ts';
import { fastMxu, type Mxu, mxuWorkspaceBytes } from '../../src/chip/mxu.ts';
import { systolicMxu } from '../../src/chip/systolic.ts';
import { bitsOf, type Case, defined, placed, resultBits } from './matmul.ts';

const relaxed = enableRelaxedSimd();
const memory = new WebAssembly.Memory({ initial: 512, maximum: 65536, shared: true });
const operands = Math.ceil(mxuWorkspaceBytes / 64) * 64;
const fused = fastMxu(memory, { relaxed }, 0);
const plain = fastMxu(memory, { relaxed: false }, 0);
const systolic = systolicMxu(memory);

/**
 * Generators of the numbers in operands: ordinary numbers, and numbers at the limits of f32 and
 * bf16.
 */
const ordinary = fc.float({ min: -4, max: 4, noNaN: true });
const subnormal = fc.integer({ min: -0x7f_ffff, max: 0x7f_ffff }).map((i) => i * 2 ** -149);
const scaled = fc
  .tuple(
    fc.float({ min: 1, max: 2, noNaN: true }),
    fc.integer({ min: -126, max: 127 }),
    fc.boolean(),
  )
  .map(([fraction, exponent, negative]) =>
    Math.fround((negative ? -1 : 1) * fraction * 2 ** exponent),
  );
const special = fc.constantFrom(
  0,
  -0,
  Number.NaN,
  Infinity,
  -Infinity,
  2 ** -63,
  -(2 ** -64),
  2 ** 64,
);
const nearlyUnderflowing = fc
  .tuple(fc.float({ min: 1, max: 2, noNaN: true }), fc.integer({ min: -64, max: -62 }))
  .map(([fraction, exponent]) => Math.fround(fraction * 2 ** exponent));
const nearlyOverflowing = fc
  .tuple(fc.float({ min: -2, max: 2, noNaN: true }), fc.integer({ min: 62, max: 64 }))
  .map(([fraction, exponent]) => Math.fround(fraction * 2 ** exponent));
const kinds = [
  ordinary,
  fc.oneof({ weight: 30, arbitrary: ordinary }, { weight: 1, arbitrary: special }),
  fc.oneof(ordinary, subnormal),
  nearlyUnderflowing,
  nearlyOverflowing,
  scaled,
  fc.oneof(ordinary, subnormal, scaled, special),
];

/**
 * Generator of tables of `count` offsets. A table is of one of three kinds: offsets with equal
 * steps, runs of consecutive offsets with gaps between the runs, or random offsets.
 */
function offsets(count: number): fc.Arbitrary<Int32Array> {
  const affine = fc
    .constantFrom(1, 2, 7)
    .map((step) => Int32Array.from({ length: count }, (_, i) => i * step));
  const runs = fc
    .tuple(fc.constantFrom(3, 4, 8, 26, 9), fc.integer({ min: 1, max: 5 }))
    .map(([run, gap]) =>
      Int32Array.from({ length: count }, (_, i) => i + Math.floor(i / run) * gap),
    );
  const any = fc
    .array(fc.integer({ min: 0, max: 60 }), { minLength: count, maxLength: count })
    .map((values) => Int32Array.from(values));
  return fc.oneof(affine, runs, any);
}

function cases(sizes: readonly [number, number, number, number]): fc.Arbitrary<Case> {
  const size = (max: number) => fc.integer({ min: 1, max });
  return fc
    .tuple(size(sizes[0]), size(sizes[1]), size(sizes[2]), size(sizes[3]))
    .chain(([m, n, k, segments]) =>
      fc
        .record({
          multiplicands: fc.constantFrom('bf16' as const, 'f32' as const),
          rowOffsets: offsets(m),
          lhsDepthOffsets: offsets(k),
          rhsDepthOffsets: offsets(k),
          columnOffsets: offsets(n),
        })
        .chain((tables) => {
          const lhsSegment = span(tables.rowOffsets, tables.lhsDepthOffsets);
          const rhsSegment = span(tables.rhsDepthOffsets, tables.columnOffsets);
          return fc
            .record({ lhs: words(lhsSegment * segments), rhs: words(rhsSegment * segments) })
            .map((data) => ({ m, n, k, segments, ...tables, ...data, lhsSegment, rhsSegment }));
        }),
    );
}

/**
 * Generator of large matmuls whose operands have many zeros. Some operands have one special value,
 * such as infinity.
 */
function sparseCases(): fc.Arbitrary<Case> {
  const share = fc.constantFrom(0.1, 0.3, 1);
  return fc
    .record({
      m: fc.constantFrom(64, 96, 190, 288),
      n: fc.constantFrom(32, 64, 96, 70),
      deeper: fc.integer({ min: 1, max: 300 }),
      segments: fc.constantFrom(1, 1, 2),
    })
    .chain(({ m, n, deeper, segments }) => {
      const k = Math.ceil(1e6 / (m * n)) + deeper;
      return fc
        .record({
          multiplicands: fc.constant('bf16' as const),
          rowOffsets: offsets(m),
          lhsDepthOffsets: offsets(k),
          rhsDepthOffsets: offsets(k),
          columnOffsets: offsets(n),
        })
        .chain((tables) => {
          const lhsSegment = span(tables.rowOffsets, tables.lhsDepthOffsets);
          const rhsSegment = span(tables.rhsDepthOffsets, tables.columnOffsets);
          return fc
            .record({
              lhs: thinned(lhsSegment * segments, share),
              rhs: thinned(rhsSegment * segments, share),
            })
            .map((data) => ({ m, n, k, segments, ...tables, ...data, lhsSegment, rhsSegment }));
        });
    });
}

/**
 * Generator of arrays in which `share` of the numbers are random, and all others are +0 or −0. Some
 * arrays have one special value, such as infinity.
 */
function thinned(count: number, share: fc.Arbitrary<number>): fc.Arbitrary<Float32Array> {
  const odd = fc.oneof(special, subnormal, scaled);
  return fc
    .tuple(words(count, ordinary), share, fc.nat(), fc.option(fc.tuple(odd, fc.nat())))
    .map(([values, kept, seed, strange]) => {
      const thin = values.map((value, i) => {
        const draw = Math.imul(Math.imul(i + seed, 0x85eb_ca6b) ^ seed, 0xc2b2_ae35) >>> 0;
        if (draw < kept * 2 ** 32) return value;
        return draw % 2 === 0 ? 0 : -0;
      });
      if (strange !== null) thin[strange[1] % count] = strange[0];
      return thin;
    });
}

function span(a: Int32Array, b: Int32Array): number {
  return Math.max(...a) + Math.max(...b) + 1;
}

/**
 * Generator of arrays of `count` numbers. Only 64 different numbers are random; they are repeated
 * in an irregular order.
 */
function words(count: number, only?: fc.Arbitrary<number>): fc.Arbitrary<Float32Array> {
  return fc
    .constantFrom(...(only === undefined ? kinds : [only]))
    .chain((kind) =>
      fc
        .tuple(fc.array(kind, { minLength: 64, maxLength: 64 }), fc.nat())
        .map(([pool, seed]) =>
          Float32Array.from(
            { length: count },
            (_, i) => pool[(Math.imul(i + seed, 0x9e37_79b1) >>> 16) % 64]!,
          ),
        ),
    );
}

function run(mxu: Mxu, it: Case): Uint32Array {
  const call = placed(it, memory, operands);
  mxu.multiply(call);
  return resultBits(call, memory);
}

describe('the MXU computes the bits of the definition', () => {
  test('with relaxed SIMD enabled, so that the tests cover both builds', () => {
    expect(relaxed).toBe(true);
  });

  test('fast, with and without fused multiply-adds', () => {
    fc.assert(
      fc.property(cases([30, 20, 300, 4]), (it) => {
        const expected = bitsOf(defined(it));
        expect(run(fused, it)).toEqual(expected);
        expect(run(plain, it)).toEqual(expected);
      }),
      { numRuns: 300 },
    );
  });
  test('fast, over several blocks of rows, columns and depth', () => {
    fc.assert(
      fc.property(cases([220, 40, 900, 3]), (it) => {
        const expected = bitsOf(defined(it));
        expect(run(fused, it)).toEqual(expected);
        expect(run(plain, it)).toEqual(expected);
      }),
      { numRuns: 6 },
    );
  });
  test('fast, when it skips products of zeros because one operand is mostly zeros', () => {
    fc.assert(
      fc.property(sparseCases(), (it) => {
        const expected = bitsOf(defined(it));
        expect(run(fused, it)).toEqual(expected);
        expect(run(plain, it)).toEqual(expected);
      }),
      { numRuns: 10 },
    );
  });
  /**
   * Returns a matmul in which the operand `side` has many zeros: of `every` values about one is not
   * 0. The rows of the left operand overlap in memory, like the windows of an image.
   */
  function sparse(side: 'lhs' | 'rhs', every: number): Case {
    const [m, n, k] = [192, 64, 900];
    const affine = (count: number, step: number) =>
      Int32Array.from({ length: count }, (_, i) => i * step);
    const values = (count: number, step: number) =>
      Float32Array.from({ length: count }, (_, i) =>
        Math.imul(i, 0x9e37_79b1) % step === 0 ? (Math.imul(i, 0x85eb_ca6b) >> 20) / 7 : 0,
      );
    const [lhsSegment, rhsSegment] = [3 * m + k, k * n];
    return {
      ...{ m, n, k, segments: 1, multiplicands: 'bf16', lhsSegment, rhsSegment },
      ...{ rowOffsets: affine(m, side === 'lhs' ? 3 : 1), lhsDepthOffsets: affine(k, 1) },
      ...{ rhsDepthOffsets: affine(k, n), columnOffsets: affine(n, 1) },
      lhs: values(lhsSegment, side === 'lhs' ? every : 1),
      rhs: values(rhsSegment, side === 'rhs' ? every : 1),
    };
  }
  describe.each(['lhs', 'rhs'] as const)('zeros in the %s', (side) => {
    function expectDefined(it: Case): Float32Array {
      const expected = bitsOf(defined(it));
      for (const mxu of [fused, plain]) expect(run(mxu, it)).toEqual(expected);
      return new Float32Array(expected.buffer);
    }
    test.each([5, 9, 1000])('where one value in %d is not zero', (every) => {
      expectDefined(sparse(side, every));
    });
    test('a zero times infinity is NaN', () => {
      const it = sparse(side, 9);
      it[side === 'lhs' ? 'rhs' : 'lhs'][0] = Infinity;
      expect(expectDefined(it).some(Number.isNaN)).toBe(true);
    });
    test('a product that underflows is +0', () => {
      const it = sparse(side, 9);
      const { lhs, rhs, n, k } = it;
      lhs.fill(side === 'lhs' ? 0 : 1, 0, k);
      lhs[0] = 2 ** -70;
      for (let i = 0; i < k; i++) rhs[i * n] = side === 'rhs' ? 0 : 1;
      rhs.fill(2 ** -70, 0, n);
      expect(expectDefined(it)[0]).toBe(0);
    });
  });
  test('systolic', () => {
    fc.assert(
      fc.property(cases([12, 6, 8, 3]), (it) => {
        expect(run(systolic, it)).toEqual(bitsOf(defined(it)));
      }),
      { numRuns: 40 },
    );
  });
  test('systolic, over several tiles of depth and columns', () => {
    fc.assert(
      fc.property(cases([4, 300, 300, 2]), (it) => {
        expect(run(systolic, it)).toEqual(bitsOf(defined(it)));
      }),
      { numRuns: 4 },
    );
  });

  /**
   * Returns a matmul whose result is the same in every element: the dot product of `lhs` and `rhs`.
   * Whole blocks of the kernel cover the result, so only the code for whole blocks runs.
   */
  function chain(lhs: readonly number[], rhs: readonly number[]): Case {
    const [m, n, k] = [12, 16, lhs.length];
    return {
      ...{ m, n, k, segments: 1, multiplicands: 'bf16', lhsSegment: k, rhsSegment: k },
      ...{ rowOffsets: new Int32Array(m), columnOffsets: new Int32Array(n) },
      lhsDepthOffsets: Int32Array.from(lhs, (_, i) => i),
      rhsDepthOffsets: Int32Array.from(lhs, (_, i) => i),
      ...{ lhs: Float32Array.from(lhs), rhs: Float32Array.from(rhs) },
    };
  }
  test.each([
    [
      'products just below the largest f32 have a finite sum',
      [-1.5, 1],
      [2 ** 127, 2 ** 127 * 1.9],
    ],
    [
      'a product above the largest f32 is infinity, even if the exact sum is finite',
      [-(2 ** 63) * 1.5, 2 ** 64],
      [2 ** 64, 2 ** 64],
    ],
    [
      'a product is infinity if it overflows only because its factors round up to bf16',
      [-(2 ** 63) * 1.5, 2 ** 64 - 2 ** 50],
      [2 ** 63, 2 ** 64 - 2 ** 50],
    ],
    ['a product that underflows is +0', [2 ** -63, 2 ** -64], [2 ** -63, 2 ** -63]],
    ['a subnormal multiplicand is zero', [2 ** -127, 1], [2 ** 127, -0]],
    ['NaN times zero and infinity times zero are NaN', [Number.NaN, Infinity], [0, 0]],
  ])('%s', (_, lhs, rhs) => {
    const it = chain(lhs, rhs);
    const expected = bitsOf(defined(it));
    expect(run(fused, it)).toEqual(expected);
    expect(run(plain, it)).toEqual(expected);
    expect(run(systolic, it)).toEqual(expected);
  });
  test('at addresses above 2^31', () => {
    const large = new WebAssembly.Memory({ initial: 33_000, maximum: 65536, shared: true });
    const it = chain([1, -2, 3, 0.25, 7], [5, 0.5, 2, 11, -1]);
    const workspace = 2 ** 31 - 640;
    const call = placed(it, large, workspace + operands);
    for (const mxu of [fastMxu(large, { relaxed }, workspace), systolicMxu(large)]) {
      new Float32Array(large.buffer, call.result, call.m * call.n).fill(-7);
      mxu.multiply(call);
      expect(resultBits(call, large)).toEqual(bitsOf(defined(it)));
    }
  });
  test('cycles are counted: one fill of the array, then for each tile its rows and latency', () => {
    const before = systolic.cycles();
    run(systolic, chain(new Array<number>(300).fill(1), new Array<number>(300).fill(1)));
    expect(systolic.cycles() - before).toBe(128 + 3 * (12 + 128 + 128 - 1));
  });
});
