import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import * as b from '../../src/hlo/build.ts';
import { evaluate } from '../../src/hlo/evaluate.ts';
import type { HloInstruction } from '../../src/hlo/instruction.ts';
import { parse } from '../../src/hlo/parse.ts';
import { print } from '../../src/hlo/print.ts';
import type { ElementType } from '../../src/numerics/element-type.ts';
import { literal, valuesOf } from '../../src/numerics/literal.ts';
import { arrayShape } from '../../src/numerics/shape.ts';

function computed(
  make: (x: HloInstruction) => HloInstruction,
  type: ElementType,
  values: readonly number[],
): number[] {
  const x = b.parameter(0, arrayShape(type, [values.length]));
  const parameters = [literal(type, [values.length], values)];
  return valuesOf(evaluate(b.module('m', [x], make(x)), { parameters }).values[0]!);
}

describe('popcnt and count-leading-zeros', () => {
  test.each([
    ['s32', 32],
    ['u32', 32],
    ['s8', 8],
    ['u16', 16],
  ] as const)('count the digits of the binary number of a %s', (type, width) => {
    fc.assert(
      fc.property(fc.array(fc.integer(), { minLength: 1 }), (values) => {
        const texts = values.map((x) => BigInt.asUintN(width, BigInt(x)).toString(2));
        const ones = texts.map((text) => text.replaceAll('0', '').length);
        const zeros = texts.map((text) => (text === '0' ? width : width - text.length));
        expect(computed(b.popcnt, type, values)).toEqual(ones);
        expect(computed(b.countLeadingZeros, type, values)).toEqual(zeros);
      }),
    );
    expect(computed(b.countLeadingZeros, type, [0, -1, 1])).toEqual([width, 0, width - 1]);
  });
  test('refuse floats and pred', () => {
    for (const type of ['f32', 'pred'] as const) {
      const x = b.parameter(0, arrayShape(type, [2]));
      expect(() => b.popcnt(x)).toThrow('popcnt');
      expect(() => b.countLeadingZeros(x)).toThrow('count-leading-zeros');
    }
  });
});

describe('reduce-precision', () => {
  const reduced = (exponentBits: number, mantissaBits: number, ...values: number[]): number[] =>
    computed((x) => b.reducePrecision(x, { exponentBits, mantissaBits }), 'f32', values);

  test('rounds the mantissa to the nearest value, ties to even', () => {
    expect(reduced(8, 2, 1.125, 1.375, -1.126, 1.1)).toEqual([1, 1.5, -1.25, 1]);
    expect(reduced(8, 0, 1.25, 1.5, 3, 1.75)).toEqual([1, 2, 2, 2]);
    expect(reduced(8, 23, 1 + 2 ** -23, 2 ** -149)).toEqual([1 + 2 ** -23, 2 ** -149]);
  });
  test('makes a value too large for the exponent infinite, and one too small zero', () => {
    expect(reduced(5, 10, 65504, 65519, 65520, -1e30)).toEqual([65504, 65504, Infinity, -Infinity]);
    expect(reduced(5, 10, 2 ** -14, 2 ** -15, -(2 ** -15))).toEqual([2 ** -14, 0, -0]);
    expect(reduced(1, 10, 0.5, 1, 2, -4)).toEqual([0, 0, Infinity, -Infinity]);
  });
  test('keeps NaN, infinities and signed zeros, also without a mantissa', () => {
    expect(reduced(5, 1, NaN, Infinity, -Infinity, -0)).toEqual([NaN, Infinity, -Infinity, -0]);
    expect(reduced(5, 0, NaN, -Infinity, -0)).toEqual([NaN, -Infinity, -0]);
  });
  test('to the format of f16 gives the normal numbers of a conversion to f16', () => {
    fc.assert(
      fc.property(fc.float({ noNaN: true, min: -7e4, max: 7e4 }), (value) => {
        fc.pre(Math.abs(value) >= 2 ** -14);
        const there = computed((x) => b.convert(b.convert(x, 'f16'), 'f32'), 'f32', [value]);
        expect(reduced(5, 10, value)).toEqual(there);
      }),
      { numRuns: 400 },
    );
  });
  test('has its attributes in HLO text, and refuses wrong ones', () => {
    const x = b.parameter(0, arrayShape('f32', [2]));
    const module = b.module('m', [x], b.reducePrecision(x, { exponentBits: 5, mantissaBits: 10 }));
    const text = print(module);
    expect(text).toMatch(/reduce-precision\(.*\), exponent_bits=5, mantissa_bits=10\n/);
    expect(print(parse(text))).toBe(text);
    expect(() => b.reducePrecision(x, { exponentBits: 0, mantissaBits: 1 })).toThrow(
      'expected exponent_bits of 1 or more, not 0',
    );
    expect(() => b.reducePrecision(x, { exponentBits: 5, mantissaBits: -1 })).toThrow(
      'expected mantissa_bits of 0 or more, not -1',
    );
  });
});
