import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import * as b from '../../src/hlo/build.ts';
import { evaluate } from '../../src/hlo/evaluate.ts';
import type { HloInstruction } from '../../src/hlo/instruction.ts';
import { parse } from '../../src/hlo/parse.ts';
import { print } from '../../src/hlo/print.ts';
import {
  bytesOf,
  type Literal,
  literal,
  literalOfBytes,
  scalarsOf,
} from '../../src/numerics/literal.ts';
import { arrayShape, shapeText } from '../../src/numerics/shape.ts';
import { difference } from './same.ts';

function run(value: Literal, build: (x: HloInstruction) => HloInstruction): Literal {
  const x = b.parameter(0, value.shape);
  const module = b.module('m', [x], build(x));
  expect(difference(module, parse(print(module)))).toBeUndefined();
  return evaluate(module, { parameters: [value] }).values[0]!;
}

describe('a bitcast between elements of different widths', () => {
  const types = ['u8', 's8', 'f16', 'bf16', 'u16', 's16', 'f32', 'u32', 's64', 'u64'] as const;
  const bytes = fc.uint8Array({ minLength: 48, maxLength: 48 });

  test.each(types)('of %s has the same bytes, lowest first', (from) => {
    fc.assert(
      fc.property(bytes, fc.constantFrom(...types), (data, to) => {
        const width = bytesOf(literal(from, [], [0])).length;
        const target = bytesOf(literal(to, [], [0])).length;
        const ratio = target / width;
        const dims = ratio > 1 ? [48 / target, ratio] : [48 / width];
        const value = literalOfBytes(arrayShape(from, dims), data);
        const result = run(value, (x) => b.bitcastConvert(x, to));
        const expected = ratio < 1 ? [48 / width, width / target] : [48 / target];
        expect(result.shape).toEqual(arrayShape(to, expected));
        expect([...bytesOf(result)]).toEqual([...data]);
      }),
      { numRuns: 30 },
    );
  });

  test('to elements of 4 bits has the low half first, and comes back', () => {
    const value = literal('u8', [2], [0x21, 0xf7]);
    const halves = run(value, (x) => b.bitcastConvert(x, 's4'));
    expect([shapeText(halves.shape), scalarsOf(halves)]).toEqual(['s4[2,2]', [1, 2, 7, -1]]);
    const back = run(halves, (x) => b.bitcastConvert(x, 'u8'));
    expect([shapeText(back.shape), scalarsOf(back)]).toEqual(['u8[2]', [0x21, 0xf7]]);
  });

  test('is refused if elements are left over', () => {
    const x = b.parameter(0, arrayShape('u8', [6, 3]));
    expect(() => b.bitcastConvert(x, 'u32')).toThrow('expected elements that fill elements of u32');
    const text = print(b.module('m', [x], b.bitcastConvert(x, 's8')));
    const wrong = text.replace('s8[6,3] bitcast', 'u16[6,3] bitcast');
    expect(() => parse(wrong)).toThrow('expected elements that fill elements of u16');
  });
});
