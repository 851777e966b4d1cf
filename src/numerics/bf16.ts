const f32: Float32Array = new Float32Array(1);
const bits: Uint32Array = new Uint32Array(f32.buffer);

/**
 * Converts the bits of an f32 to the bits of a bf16 as the hardware does: nearest, ties to even;
 * overflow becomes infinity; a result below the smallest normal becomes a zero of the same sign;
 * NaN stays NaN, its sign and upper payload kept and made quiet. [Cloud TPU docs, bfloat16]
 */
export function bf16FromF32Bits(word: number): number {
  const magnitude = word & 0x7fff_ffff;
  if (magnitude > 0x7f80_0000) return (word >>> 16) | 0x0040;
  const rounded = (word + 0x7fff + ((word >>> 16) & 1)) >>> 16;
  return (rounded & 0x7f80) === 0 ? rounded & 0x8000 : rounded & 0xffff;
}

/** The bf16 bits of a number, rounded to f32 first. */
export function bf16FromF32(value: number): number {
  f32[0] = value;
  return bf16FromF32Bits(bits[0]!);
}

/** The number that bf16 bits stand for: a bf16 is the upper half of an f32. */
export function f32FromBf16(half: number): number {
  bits[0] = half << 16;
  return f32[0]!;
}

/** Rounds a number to the nearest bf16, as {@link bf16FromF32Bits} does. */
export function roundToBf16(value: number): number {
  return f32FromBf16(bf16FromF32(value));
}
