import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { compile } from '../../src/compiler/compile.ts';
import * as b from '../../src/hlo/build.ts';
import { evaluate } from '../../src/hlo/evaluate.ts';
import type { BinaryOpcode, HloInstruction } from '../../src/hlo/instruction.ts';
import { parse } from '../../src/hlo/parse.ts';
import { print } from '../../src/hlo/print.ts';
import { assert } from '../../src/numerics/assert.ts';
import {
  computedTypes,
  coreTypes,
  type ElementType,
  elementTypes,
  type Scalar,
} from '../../src/numerics/element-type.ts';
import { literal, literalOfBytes, scalarsOf } from '../../src/numerics/literal.ts';
import { arrayShape } from '../../src/numerics/shape.ts';

const integers = computedTypes.filter((type) =>
  ['signed', 'unsigned'].includes(elementTypes[type].kind),
);
const floats = computedTypes.filter((type) => elementTypes[type].kind === 'float');

/** Returns the value of an instruction of two parameters, for the given numbers. */
function computed(
  make: (x: HloInstruction, y: HloInstruction) => HloInstruction,
  type: ElementType,
  xs: readonly Scalar[],
  ys: readonly Scalar[] = xs,
): Scalar[] {
  const shape = arrayShape(type, [xs.length]);
  const [x, y] = [b.parameter(0, shape), b.parameter(1, shape)];
  const parameters = [xs, ys].map((values) => literal(type, [xs.length], values));
  const [value] = evaluate(b.module('m', [x, y], make(x, y)), { parameters }).values;
  return scalarsOf(value!);
}

/** Definitions of the operations on integers of `bits` bits, with exact integers. */
const exact: Readonly<Record<string, (a: bigint, b: bigint, bits: number) => bigint>> = {
  add: (x, y) => x + y,
  subtract: (x, y) => x - y,
  multiply: (x, y) => x * y,
  divide: (x, y) => (y === 0n ? -1n : x / y),
  remainder: (x, y) => (y === 0n ? x : x % y),
  maximum: (x, y) => (x - y > 0n ? x : y),
  minimum: (x, y) => (x - y < 0n ? x : y),
  and: (x, y) => x & y,
  or: (x, y) => x | y,
  xor: (x, y) => x ^ y,
  'shift-left': (x, y, bits) => (count(y, bits) < bits ? x << BigInt(count(y, bits)) : 0n),
  'shift-right-logical': (x, y, bits) =>
    count(y, bits) < bits ? BigInt.asUintN(bits, x) >> BigInt(count(y, bits)) : 0n,
  'shift-right-arithmetic': (x, y, bits) =>
    BigInt.asIntN(bits, x) >> BigInt(Math.min(count(y, bits), bits)),
};

function count(y: bigint, bits: number): number {
  return Number(BigInt.asUintN(bits, y));
}

describe.each(integers)('integers of type %s', (type) => {
  const { bits, kind, stored } = elementTypes[type];
  const own = (value: bigint): Scalar => (stored!.isWide ? value : Number(value));
  const [least, most] = [BigInt(stored!.range!.least), BigInt(stored!.range!.most)];
  const wrapped = (value: bigint): Scalar =>
    own(kind === 'signed' ? BigInt.asIntN(bits, value) : BigInt.asUintN(bits, value));
  const element = fc.oneof(
    fc.bigInt({ min: least, max: most }),
    fc.constantFrom(least, most, 0n),
    fc.bigInt({ min: 0n, max: most < 70n ? most : 70n }),
  );

  test.each(Object.keys(exact))('%s wraps as exact integers do', (opcode) => {
    fc.assert(
      fc.property(element, element, (x, y) => {
        const make = (a: HloInstruction, c: HloInstruction): HloInstruction =>
          b.binary(opcode as BinaryOpcode, a, c);
        const found = computed(make, type, [own(x)], [own(y)]);
        expect(found).toEqual([wrapped(exact[opcode]!(x, y, bits))]);
      }),
      { numRuns: 60 },
    );
  });

  test('not, negate and conversions wrap or saturate', () => {
    const all = [least, most, 0n, 1n];
    const owns = all.map(own);
    expect(computed((x) => b.not(x), type, owns)).toEqual(all.map((x) => wrapped(~x)));
    expect(computed((x) => b.negate(x), type, owns)).toEqual(all.map((x) => wrapped(-x)));
    const fromFloat = computed((x) => b.convert(x, type), 'f32', [1e20, -1e20, Number.NaN, 1.75]);
    expect(fromFloat).toEqual([most, least, 0n, most < 1n ? most : 1n].map(own));
    const fromWord = computed((x) => b.convert(x, type), 's32', [-1, 2 ** 30 + 5]);
    expect(fromWord).toEqual([wrapped(-1n), wrapped(2n ** 30n + 5n)]);
    const backAgain = computed((x) => b.convert(x, 's32'), type, owns);
    expect(backAgain).toEqual(all.map((x) => Number(BigInt.asIntN(32, x))));
  });

  test('comparisons, clamps, selections and reductions are exact', () => {
    fc.assert(
      fc.property(element, element, (x, y) => {
        const one = (make: (a: HloInstruction, c: HloInstruction) => HloInstruction): Scalar =>
          computed(make, type, [own(x)], [own(y)])[0]!;
        expect(one((a, c) => b.compare('LT', a, c))).toBe(Number(x < y));
        expect(one((a, c) => b.select(b.compare('GE', a, c), a, c))).toBe(
          own([x, y].toSorted((p, q) => Number(p > q) - Number(p < q))[1]!),
        );
        const [low, high] = x < y ? [x, y] : [y, x];
        const limit = (a: HloInstruction, c: HloInstruction): HloInstruction =>
          b.clamp(b.minimum(a, c), b.full(type, [1], 1), b.maximum(a, c));
        const expected = low > 1n ? low : high < 1n ? high : 1n;
        expect(one(limit)).toBe(own(expected));
        const sum = (a: HloInstruction, c: HloInstruction): HloInstruction =>
          b.reduceSum(b.concatenate([a, c, a], 0), [0]);
        expect(one(sum)).toBe(wrapped(x + y + x));
      }),
      { numRuns: 60 },
    );
  });

  test('a float from an integer is rounded once', () => {
    fc.assert(
      fc.property(stored!.isWide ? fc.oneof(element, nearTie) : element, (x) => {
        const [found] = computed((a) => b.convert(a, 'f32'), type, [own(x)]);
        expect(found).toBe(nearestF32(x));
      }),
      { numRuns: 100 },
    );
  });
});

/**
 * Integers of 62 bits that lie halfway between two f32, or next to that. An f64 has too few bits to
 * tell these apart.
 */
const nearTie = fc
  .tuple(fc.bigInt({ min: 2n ** 23n, max: 2n ** 24n - 1n }), fc.constantFrom(-1n, 0n, 1n))
  .map(([digits, beside]) => digits * 2n ** 38n + 2n ** 37n + beside);

/** Returns the f32 nearest to an integer, ties to even, by comparing exact distances. */
function nearestF32(x: bigint): number {
  const near = Math.fround(Number(x));
  const word = new Uint32Array(Float32Array.of(near).buffer)[0]!;
  const around = [-1, 0, 1].map((step) => ({
    even: (word + step) % 2 === 0,
    value: new Float32Array(Uint32Array.of(word + step).buffer)[0]!,
  }));
  const finite = around.filter(({ value }) => Number.isInteger(value));
  const distance = (value: number): bigint => {
    const d = BigInt(value) - x;
    return d < 0n ? -d : d;
  };
  const least = finite.map(({ value }) => distance(value)).reduce((a, c) => (a - c < 0n ? a : c));
  const best = finite.filter(({ value }) => distance(value) === least);
  return (best.find(({ even }) => even) ?? best[0]!).value + 0;
}

describe.each(floats)('floats of type %s', (type) => {
  test('a sum and a product are rounded once from the exact value', () => {
    const { stored } = elementTypes[type];
    assert(stored?.isWide === false, 'a float is a number');
    const { encode, decode } = stored;
    const rounded = (value: number): number => decode(encode(value));
    const codes = fc.nat(2 ** Math.min(elementTypes[type].bits, 16) - 1);
    const element = type === 'f32' ? fc.float() : codes.map((code) => decode(code));
    fc.assert(
      fc.property(element.map(rounded), element.map(rounded), (x, y) => {
        expect(computed((a, c) => b.add(a, c), type, [x], [y])).toEqual([rounded(x + y)]);
        expect(computed((a, c) => b.multiply(a, c), type, [x], [y])).toEqual([rounded(x * y)]);
      }),
      { numRuns: 200 },
    );
  });
});

test.each(computedTypes)('a constant of %s is printed and read back with the same bits', (type) => {
  const size = 7;
  const shape = arrayShape(type, [size]);
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 4 * size, maxLength: 4 * size }), (bytes) => {
      const width = Math.max(1, elementTypes[type].bits / 8);
      const raw = scalarsOf(literalOfBytes(shape, bytes.subarray(0, width * size)));
      const values = type === 'pred' ? raw.map((x) => Number(x) & 1) : raw;
      const value = literal(type, [size], values);
      const text = print(b.module('m', [], b.constant(value)));
      const read = evaluate(parse(text), { parameters: [] }).values[0]!;
      expect(scalarsOf(read)).toEqual(scalarsOf(value));
    }),
    { numRuns: 60 },
  );
});

test('plain code computes with the types that the core does not have, and says so', () => {
  for (const type of computedTypes) {
    const [x, y] = [0, 1].map((i) => b.parameter(i, arrayShape(type, [4])));
    const module = b.module('m', [x!, y!], b.select(b.compare('LT', x!, y!), x!, y!));
    const { instructions } = compile(module, { cores: 1 });
    const reasons = instructions.flatMap((it) => (it.unit === 'plain' ? [it.reason] : []));
    const expected = coreTypes.includes(type) ? [] : [`a value of ${type}[4]`];
    expect([...new Set(reasons)]).toEqual(expected);
  }
});

test.each(computedTypes)('the maximum of elements of %s is the greatest, however small', (type) => {
  const signed = elementTypes[type].kind === 'signed' || elementTypes[type].kind === 'float';
  const few = type === 's2' ? [-2, -1] : [-3, -2];
  const values = signed ? few : [0, 1];
  const stored = literal(type, [2], elementTypes[type].bits === 64 ? values.map(BigInt) : values);
  const root = b.reduceMax(b.constant(stored), [0]);
  const [found] = evaluate(b.module('m', [], root), { parameters: [] }).values;
  expect(Number(scalarsOf(found!)[0])).toBe(values[1]);
});
