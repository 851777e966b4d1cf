import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { compile } from '../../src/compiler/compile.ts';
import * as b from '../../src/hlo/build.ts';
import { evaluate } from '../../src/hlo/evaluate.ts';
import type { BinaryOpcode, HloInstruction } from '../../src/hlo/instruction.ts';
import { parse } from '../../src/hlo/parse.ts';
import { print } from '../../src/hlo/print.ts';
import {
  computedTypes,
  coreTypes,
  type ElementType,
  elementTypes,
} from '../../src/numerics/element-type.ts';
import { literal, literalOfBytes, valuesOf } from '../../src/numerics/literal.ts';
import { arrayShape } from '../../src/numerics/shape.ts';

const integers = computedTypes.filter((type) =>
  ['signed', 'unsigned'].includes(elementTypes[type].kind),
);
const floats = computedTypes.filter((type) => elementTypes[type].kind === 'float');

/** Returns the value of an instruction of two parameters, for the given numbers. */
function computed(
  make: (x: HloInstruction, y: HloInstruction) => HloInstruction,
  type: ElementType,
  xs: readonly number[],
  ys: readonly number[] = xs,
): number[] {
  const shape = arrayShape(type, [xs.length]);
  const [x, y] = [b.parameter(0, shape), b.parameter(1, shape)];
  const parameters = [xs, ys].map((values) => literal(type, [xs.length], values));
  const [value] = evaluate(b.module('m', [x, y], make(x, y)), { parameters }).values;
  return valuesOf(value!);
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
  const { bits, kind, numbers } = elementTypes[type];
  const { least, most } = numbers!.range!;
  const wrapped = (value: bigint): number =>
    Number(kind === 'signed' ? BigInt.asIntN(bits, value) : BigInt.asUintN(bits, value));
  const element = fc.oneof(fc.integer({ min: least, max: most }), fc.constantFrom(least, most, 0));

  test.each(Object.keys(exact))('%s wraps as exact integers do', (opcode) => {
    fc.assert(
      fc.property(element, fc.oneof(element, fc.nat(Math.min(most, 40))), (x, y) => {
        const found = computed((a, c) => b.binary(opcode as BinaryOpcode, a, c), type, [x], [y]);
        expect(found).toEqual([wrapped(exact[opcode]!(BigInt(x), BigInt(y), bits))]);
      }),
      { numRuns: 60 },
    );
  });

  test('not, negate and conversions wrap or saturate', () => {
    const all = [least, most, 0, 1];
    expect(computed((x) => b.not(x), type, all)).toEqual(all.map((x) => wrapped(~BigInt(x))));
    expect(computed((x) => b.negate(x), type, all)).toEqual(all.map((x) => wrapped(-BigInt(x))));
    const fromFloat = computed((x) => b.convert(x, type), 'f32', [1e20, -1e20, Number.NaN, 1.75]);
    expect(fromFloat).toEqual([most, least, 0, Math.min(1, most)]);
    const fromWord = computed((x) => b.convert(x, type), 's32', [-1, 2 ** 30 + 5]);
    expect(fromWord).toEqual([wrapped(-1n), wrapped(2n ** 30n + 5n)]);
  });
});

describe.each(floats)('floats of type %s', (type) => {
  test('a sum and a product are rounded once from the exact value', () => {
    const { encode, decode } = elementTypes[type].numbers!;
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
      const raw = valuesOf(literalOfBytes(shape, bytes.subarray(0, width * size)));
      const values = type === 'pred' ? raw.map((x) => x & 1) : raw;
      const value = literal(type, [size], values);
      const text = print(b.module('m', [], b.constant(value)));
      const read = evaluate(parse(text), { parameters: [] }).values[0]!;
      expect(valuesOf(read)).toEqual(valuesOf(value));
    }),
    { numRuns: 60 },
  );
});

test('the compiler refuses a type that the core does not have, and names the instruction', () => {
  for (const type of computedTypes) {
    const x = b.parameter(0, arrayShape(type, [4]), 'x');
    const module = b.module('m', [x], b.select(b.compare('EQ', x, x), x, x));
    const run = (): unknown => compile(module, { cores: 1 });
    if (coreTypes.includes(type)) run();
    else expect(run).toThrow(`parameter x: expected elements of type pred, s32`);
  }
});
