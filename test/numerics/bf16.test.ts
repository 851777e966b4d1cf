import { describe, expect, test } from 'vitest';
import { bf16FromF32, bf16FromF32Bits, f32FromBf16, roundToBf16 } from '../../src/numerics/bf16.ts';
import { bitsFromF32, f32FromBits } from '../../src/numerics/f32-ops.ts';
import { bits, stream } from '../../src/numerics/random.ts';
import { bf16ByDefinition, bf16Quantum } from './bf16-definition.ts';

function differs(input: number): boolean {
  const value = f32FromBits(input);
  const expected = bf16ByDefinition(value, bf16Quantum((input >>> 23) & 0xff));
  return !Object.is(f32FromBf16(bf16FromF32Bits(input >>> 0)), expected);
}

describe('bf16', () => {
  test('a million f32 convert as defined (scripts/bf16-exhaustive.ts checks all f32)', () => {
    const key = stream(1, 'bf16');
    const wrong: number[] = [];
    for (let i = 0; i < 2 ** 20; i++) {
      const input = bits(key, i);
      if (((input >>> 23) & 0xff) !== 0xff && differs(input)) wrong.push(input);
    }
    expect(wrong).toEqual([]);
  });

  test('ties and their neighbours around every bf16 convert as defined', () => {
    const wrong: number[] = [];
    for (let half = 0; half < 0x1_0000; half++) {
      if ((half & 0x7f80) === 0x7f80) continue;
      for (const lower of [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff]) {
        if (differs((half << 16) | lower)) wrong.push(half);
      }
    }
    expect(wrong).toEqual([]);
  });

  test.each([
    ['the largest f32 overflows', 0x7f7f_ffff, 0x7f80],
    ['half way from the largest bf16 to 2^128 is a tie to infinity', 0x7f7f_8000, 0x7f80],
    ['just below the tie to infinity stays finite', 0x7f7f_7fff, 0x7f7f],
    ['infinity stays infinity', 0xff80_0000, 0xff80],
    ['a subnormal becomes a zero of its sign', 0x8000_ffff, 0x8000],
    ['the largest subnormal rounds up to the smallest normal', 0x007f_ffff, 0x0080],
    ['a signalling NaN becomes quiet', 0x7f80_0001, 0x7fc0],
    ['NaN keeps sign and upper payload', 0xffa5_1234, 0xffe5],
  ])('%s', (_, input, expected) => {
    expect(bf16FromF32Bits(input)).toBe(expected);
  });

  test('a bf16 converts to itself', () => {
    expect(roundToBf16(1 + 2 ** -8)).toBe(1);
    expect(roundToBf16(1 + 3 * 2 ** -8)).toBe(1 + 2 ** -6);
    expect(bf16FromF32(f32FromBf16(0x3f81))).toBe(0x3f81);
    expect(bitsFromF32(roundToBf16(-0))).toBe(0x8000_0000 | 0);
  });
});
