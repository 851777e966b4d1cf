import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { assert } from '../../src/numerics/assert.ts';
import { type ElementType, elementTypes } from '../../src/numerics/element-type.ts';
import {
  decodeSmallFloat,
  encodeSmallFloat,
  type SmallFloat,
} from '../../src/numerics/small-float.ts';

const formats: Readonly<Record<string, SmallFloat>> = {
  f16: { exponentBits: 5, mantissaBits: 10, bias: 15, special: 'ieee' },
  f8e5m2: { exponentBits: 5, mantissaBits: 2, bias: 15, special: 'ieee' },
  f8e4m3: { exponentBits: 4, mantissaBits: 3, bias: 7, special: 'ieee' },
  f8e4m3fn: { exponentBits: 4, mantissaBits: 3, bias: 7, special: 'fn' },
  f8e3m4: { exponentBits: 3, mantissaBits: 4, bias: 3, special: 'ieee' },
  f8e4m3b11fnuz: { exponentBits: 4, mantissaBits: 3, bias: 11, special: 'fnuz' },
  f8e5m2fnuz: { exponentBits: 5, mantissaBits: 2, bias: 16, special: 'fnuz' },
  f8e4m3fnuz: { exponentBits: 4, mantissaBits: 3, bias: 8, special: 'fnuz' },
};

/** Largest finite number and smallest positive number of each format. [ml_dtypes] */
const published: Readonly<Record<string, readonly [number, number]>> = {
  f16: [65504, 2 ** -24],
  f8e5m2: [57344, 2 ** -16],
  f8e4m3: [240, 2 ** -9],
  f8e4m3fn: [448, 2 ** -9],
  f8e3m4: [15.5, 2 ** -6],
  f8e4m3b11fnuz: [30, 2 ** -13],
  f8e5m2fnuz: [57344, 2 ** -17],
  f8e4m3fnuz: [240, 2 ** -10],
};

function codesOf({ exponentBits, mantissaBits }: SmallFloat): number[] {
  return Array.from({ length: 2 ** (1 + exponentBits + mantissaBits) }, (_, code) => code);
}

/** Finite numbers of a format with their codes, in ascending order. −0 is left out. */
function numbersOf(format: SmallFloat): { readonly code: number; readonly value: number }[] {
  return codesOf(format)
    .map((code) => ({ code, value: decodeSmallFloat(format, code) }))
    .filter(({ value }) => Number.isFinite(value) && !Object.is(value, -0))
    .sort((a, b) => a.value - b.value);
}

describe.each(Object.entries(formats))('%s', (name, format) => {
  const numbers = numbersOf(format);

  test('has the published largest and smallest number', () => {
    const [largest, smallest] = published[name]!;
    expect(numbers.at(-1)?.value).toBe(largest);
    expect(numbers.find(({ value }) => value > 0)?.value).toBe(smallest);
  });

  test('every code of a number is the code of its number', () => {
    for (const code of codesOf(format)) {
      const value = decodeSmallFloat(format, code);
      if (!Number.isNaN(value)) expect(encodeSmallFloat(format, value)).toBe(code);
    }
  });

  test('is the format of the element type with this name', () => {
    const { stored } = elementTypes[name as ElementType];
    assert(stored?.isWide === false, 'a float is a number');
    for (const code of codesOf(format)) {
      expect(stored.decode(code)).toBe(decodeSmallFloat(format, code));
      const value = decodeSmallFloat(format, code);
      expect(stored.encode(value)).toBe(encodeSmallFloat(format, value));
    }
  });

  test('has as many codes that are no numbers as its kind says', () => {
    const nans = codesOf(format).filter((code) => Number.isNaN(decodeSmallFloat(format, code)));
    const infinities = codesOf(format).filter(
      (code) => Math.abs(decodeSmallFloat(format, code)) === Infinity,
    );
    const ieee = 2 * (2 ** format.mantissaBits - 1);
    expect(nans.length).toBe({ ieee, fn: 2, fnuz: 1 }[format.special]);
    expect(infinities.length).toBe(format.special === 'ieee' ? 2 : 0);
    expect(decodeSmallFloat(format, encodeSmallFloat(format, Number.NaN))).toBeNaN();
  });

  test('a number becomes the nearest one, ties to the even code', () => {
    const largest = numbers.at(-1)!.value;
    const step = largest - numbers.at(-2)!.value;
    fc.assert(
      fc.property(
        fc.oneof(
          fc.double({ min: -largest, max: largest, noNaN: true }),
          fc.nat(numbers.length - 2).map((i) => (numbers[i]!.value + numbers[i + 1]!.value) / 2),
        ),
        (value) => {
          const found = encodeSmallFloat(format, value);
          const distances = numbers.map((it) => Math.abs(it.value - value));
          const least = Math.min(...distances);
          const nearest = numbers.filter((_, i) => distances[i] === least);
          const even = nearest.find(({ code }) => code % 2 === 0) ?? nearest[0]!;
          const expected = nearest.length === 1 ? nearest[0]! : even;
          expect(decodeSmallFloat(format, found) + 0).toBe(expected.value + 0);
        },
      ),
      { numRuns: name === 'f16' ? 60 : 500 },
    );
    const above = decodeSmallFloat(format, encodeSmallFloat(format, largest + step));
    expect(above).toBe(format.special === 'ieee' ? Infinity : Number.NaN);
    expect(decodeSmallFloat(format, encodeSmallFloat(format, largest + 0.49 * step))).toBe(largest);
  });

  test('−0 keeps its sign, unless the format has no −0', () => {
    const found = decodeSmallFloat(format, encodeSmallFloat(format, -0));
    expect(found).toBe(format.special === 'fnuz' ? 0 : -0);
  });
});
