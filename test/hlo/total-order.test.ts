import fc from 'fast-check';
import { expect, test } from 'vitest';
import { compile } from '../../src/compiler/compile.ts';
import * as b from '../../src/hlo/build.ts';
import { evaluate } from '../../src/hlo/evaluate.ts';
import { parse } from '../../src/hlo/parse.ts';
import { print } from '../../src/hlo/print.ts';
import { computedTypes, elementTypes } from '../../src/numerics/element-type.ts';
import {
  bytesOf,
  type Literal,
  literal,
  literalOfBytes,
  scalarsOf,
} from '../../src/numerics/literal.ts';
import { arrayShape, byteCount } from '../../src/numerics/shape.ts';

const floats = computedTypes.filter((type) => elementTypes[type].kind === 'float');
const directions = {
  EQ: (a: bigint, c: bigint) => a === c,
  NE: (a: bigint, c: bigint) => a !== c,
  LT: (a: bigint, c: bigint) => a < c,
  LE: (a: bigint, c: bigint) => a <= c,
  GT: (a: bigint, c: bigint) => a > c,
  GE: (a: bigint, c: bigint) => a >= c,
};

function compared(direction: keyof typeof directions, x: Literal, y: Literal): Literal {
  const parameters = [x, y].map(({ shape }, i) => b.parameter(i, shape));
  const root = b.compare(direction, parameters[0]!, parameters[1]!, 'total');
  const text = print(b.module('m', parameters, root));
  expect(text).toContain(`direction=${direction}, type=TOTALORDER`);
  return evaluate(parse(text), { parameters: [x, y] }).values[0]!;
}

/** The bits of an element, negative numbers as the complement of their magnitude. */
function keyOf(x: Literal, i: number): bigint {
  const width = x.data.BYTES_PER_ELEMENT;
  const bytes = bytesOf(x).slice(i * width, (i + 1) * width);
  const word = bytes.reduceRight((sum, byte) => sum * 256n + BigInt(byte), 0n);
  const sign = 1n << BigInt(8 * width - 1);
  return word < sign ? word : -(word - sign) - 1n;
}

test('a comparison in total order compares signs and magnitudes, for every type of floats', () => {
  const pairs = fc.constantFrom(...floats).chain((type) => {
    const shape = arrayShape(type, [8]);
    const bytes = fc.uint8Array({ minLength: byteCount(shape), maxLength: byteCount(shape) });
    const random = bytes.map((list) => literalOfBytes(shape, list));
    const few = fc
      .array(fc.constantFrom(0, -0, 1, Number.NaN, Infinity), { minLength: 8, maxLength: 8 })
      .map((list) => literal(type, [8], list));
    return fc.tuple(fc.oneof(random, few), fc.oneof(random, few));
  });
  const names = Object.keys(directions) as (keyof typeof directions)[];
  fc.assert(
    fc.property(pairs, fc.constantFrom(...names), ([x, y], direction) => {
      const expected = Array.from({ length: 8 }, (_, i) =>
        Number(directions[direction](keyOf(x, i), keyOf(y, i))),
      );
      expect(scalarsOf(compared(direction, x, y))).toEqual(expected);
    }),
    { numRuns: 300 },
  );
});

test('a comparison of integers in total order is refused', () => {
  const x = b.parameter(0, arrayShape('s32', [3]));
  expect(() => b.compare('LT', x, x, 'total')).toThrow(
    'compare(s32[3], s32[3]): expected floats for a comparison in total order, not s32',
  );
});

test('another type of a comparison in the text is the usual one', () => {
  const parameters = [0, 1].map((i) => b.parameter(i, arrayShape('f32', [])));
  const text = print(b.module('m', parameters, b.compare('LT', parameters[0]!, parameters[1]!)));
  expect(print(parse(text.replace('direction=LT', 'direction=LT, type=FLOAT')))).toBe(text);
  expect(() => parse(text.replace('direction=LT', 'direction=LT, type=LEFT'))).toThrow(
    'expected TOTALORDER or FLOAT or SIGNED or UNSIGNED, found "LEFT"',
  );
});

test('a comparison in total order is not computed by a fused loop', () => {
  const parameters = [0, 1].map((i) => b.parameter(i, arrayShape('f32', [4])));
  const root = b.compare('LT', parameters[0]!, parameters[1]!, 'total');
  const { instructions } = compile(b.module('m', parameters, root), { cores: 1 });
  expect(instructions).toMatchObject([{ unit: 'plain', reason: 'a comparison in total order' }]);
});
