import { encodeSmallFloat, type SmallFloat } from './small-float.ts';

const f32: Float32Array = new Float32Array(1);
const bits: Uint32Array = new Uint32Array(f32.buffer);

/**
 * Converts the bits of an f32 to the bits of a bf16 as the hardware does. The result is the nearest
 * bf16, ties to even. Overflow becomes infinity. A result below the smallest normal number becomes
 * a zero of the same sign. A NaN becomes a quiet NaN, which keeps the sign and the upper bits of
 * the payload. [Cloud TPU docs, bfloat16]
 */
export function bf16FromF32Bits(word: number): number {
  const magnitude = word & 0x7fff_ffff;
  if (magnitude > 0x7f80_0000) return (word >>> 16) | 0x0040;
  const rounded = (word + 0x7fff + ((word >>> 16) & 1)) >>> 16;
  return (rounded & 0x7f80) === 0 ? rounded & 0x8000 : rounded & 0xffff;
}

/** Returns the bf16 bits of a number. The number is rounded to f32 first, then to bf16. */
export function bf16FromF32(value: number): number {
  f32[0] = value;
  return bf16FromF32Bits(bits[0]!);
}

/**
 * Returns the number whose bf16 bits are `half`. These bits are the upper half of the same number
 * as f32; the lower half is zero.
 */
export function f32FromBf16(half: number): number {
  bits[0] = half << 16;
  return f32[0]!;
}

/**
 * Returns the bits of the bf16 that is nearest to a number. Unlike the conversion by the hardware,
 * keeps results below the smallest normal number.
 */
export function exactBf16(value: number): number {
  return encodeSmallFloat(format, value);
}

const format: SmallFloat = { exponentBits: 8, mantissaBits: 7, bias: 127, special: 'ieee' };

/** Rounds a number to the nearest bf16, by the rules of {@link bf16FromF32Bits}. */
export function roundToBf16(value: number): number {
  return f32FromBf16(bf16FromF32(value));
}
