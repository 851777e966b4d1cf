import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import * as b from '../../src/hlo/build.ts';
import { evaluate } from '../../src/hlo/evaluate.ts';
import { parse } from '../../src/hlo/parse.ts';
import { print } from '../../src/hlo/print.ts';
import { computedTypes, type ElementType, elementTypes } from '../../src/numerics/element-type.ts';
import { type Literal, literal, scalarsOf } from '../../src/numerics/literal.ts';
import { arrayShape } from '../../src/numerics/shape.ts';

const isInteger = (type: ElementType): boolean => {
  const { kind } = elementTypes[type];
  return kind === 'signed' || kind === 'unsigned';
};
const integers = computedTypes.filter(isInteger);

/** An element type, and a type of sums that is as wide or wider. */
const types = fc.constantFrom(...integers).chain((type) => {
  const { kind, bits } = elementTypes[type];
  const wide = integers.filter((it) => it === type || isWider(it, kind, bits));
  return fc.tuple(fc.constant(type), fc.constantFrom(...wide));
});

function isWider(type: ElementType, kind: string, bits: number): boolean {
  return elementTypes[type].kind === kind && elementTypes[type].bits > bits;
}

/** Returns integers that fill all bits of their type. */
function integersOf(type: ElementType, dims: readonly number[], seed: number): Literal {
  const count = dims.reduce((product, n) => product * n, 1);
  const wide = Array.from({ length: count }, (_, i) => {
    return BigInt.asUintN(64, BigInt(seed + i + 1) * 0x9e37_79b9_7f4a_7c15n);
  });
  const isWide = elementTypes[type].bits === 64;
  return literal(
    type,
    dims,
    wide.map((it) => (isWide ? it : Number(it >> 32n))),
  );
}

/** Returns an integer with the lowest bits of `value`. */
function wrapped(value: bigint, type: ElementType): string {
  const { kind, bits } = elementTypes[type];
  return String(kind === 'signed' ? BigInt.asIntN(bits, value) : BigInt.asUintN(bits, value));
}

describe('contractions of integers wrap, whatever the type of the sums', () => {
  test('a dot', () => {
    fc.assert(
      fc.property(types, fc.nat(), fc.nat({ max: 4 }), ([type, sumType], seed, depth) => {
        const [x, y] = [
          integersOf(type, [2, depth], seed),
          integersOf(type, [depth, 3], seed + 99),
        ];
        const dimensions = { lhsBatch: [], rhsBatch: [], lhsContracting: [1], rhsContracting: [0] };
        const root = b.dot(b.constant(x), b.constant(y), dimensions, 'default', sumType);
        const [lhs, rhs] = [x, y].map((it) => scalarsOf(it).map(BigInt));
        const expected = Array.from({ length: 6 }, (_, i) => {
          const terms = Array.from({ length: depth }, (__, k) => {
            return lhs![Math.floor(i / 3) * depth + k]! * rhs![k * 3 + (i % 3)]!;
          });
          return wrapped(
            terms.reduce((sum, term) => sum + term, 0n),
            sumType,
          );
        });
        const { values } = evaluate(b.module('m', [], root), { parameters: [] });
        expect(values[0]!.shape).toEqual(arrayShape(sumType, [2, 3]));
        expect(scalarsOf(values[0]!).map(String)).toEqual(expected);
      }),
      { numRuns: 300 },
    );
  });

  test('a convolution with padding', () => {
    fc.assert(
      fc.property(types, fc.nat(), ([type, sumType], seed) => {
        const [x, y] = [integersOf(type, [1, 5, 2], seed), integersOf(type, [3, 2, 1], seed + 99)];
        const window = [b.windowDimension({ size: 3, stride: 1, padLow: 1, padHigh: 1 })];
        const dimensions = {
          ...{ inputBatch: 0, inputFeature: 2, inputSpatial: [1] },
          ...{ kernelInputFeature: 1, kernelOutputFeature: 2, kernelSpatial: [0] },
          ...{ outputBatch: 0, outputFeature: 2, outputSpatial: [1] },
        };
        const options = { window, dimensions, type: sumType };
        const root = b.convolution(b.constant(x), b.constant(y), options);
        const [input, kernel] = [x, y].map((it) => scalarsOf(it).map(BigInt));
        const expected = Array.from({ length: 5 }, (_, place) => {
          let sum = 0n;
          for (let k = 0; k < 3; k++) {
            for (let f = 0; f < 2; f++) {
              const at = place + k - 1;
              if (at >= 0 && at < 5) sum += input![at * 2 + f]! * kernel![k * 2 + f]!;
            }
          }
          return wrapped(sum, sumType);
        });
        const { values } = evaluate(b.module('m', [], root), { parameters: [] });
        expect(scalarsOf(values[0]!).map(String)).toEqual(expected);
      }),
      { numRuns: 200 },
    );
  });
});

describe('the type of the sums', () => {
  const text = (type: string): string => `HloModule m
ENTRY main { x = s8[2,3] parameter(0)
  y = s8[3,4] parameter(1)
  ROOT z = ${type}[2,4] dot(x, y), lhs_contracting_dims={1}, rhs_contracting_dims={0} }`;

  test('is what the text states', () => {
    expect(print(parse(text('s32')))).toContain('s32[2,4] dot(');
  });

  test.each(['s4', 'u32', 'f32'])('is not %s for operands of s8', (type) => {
    expect(() => parse(text(type))).toThrow(`expected sums of s8 or of a wider type, not ${type}`);
  });
});
