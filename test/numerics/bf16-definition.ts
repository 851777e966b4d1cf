/**
 * Returns the bf16 nearest to the f32 `value`, by definition: the nearest multiple of `quantum`,
 * and of two equally near multiples the even one. `quantum` is the distance between neighbouring
 * bf16 numbers around the value: see {@link bf16Quantum}. A result of 2^128 or more becomes
 * infinity. A result below the smallest normal number, 2^-126, becomes zero. Both keep the sign.
 *
 * All f64 operations of this function are exact, because `quantum` is a power of two.
 */
export function bf16ByDefinition(value: number, quantum: number): number {
  const steps = value / quantum;
  const below = Math.floor(steps);
  const past = steps - below;
  const up = past > 0.5 || (past === 0.5 && below % 2 !== 0);
  const nearest = (up ? below + 1 : below) * quantum;
  if (Math.abs(nearest) >= 2 ** 128) return nearest * Number.POSITIVE_INFINITY;
  return Math.abs(nearest) < 2 ** -126 ? 0 * value : nearest;
}

/**
 * Returns the distance between neighbouring bf16 numbers around a value, from the biased exponent
 * of its f32. A bf16 has 8 significant bits, so the distance is 2^(e−7), where
 * 2^e ≤ |value| < 2^(e+1) and e is at least −126.
 */
export function bf16Quantum(biasedExponent: number): number {
  return 2 ** (Math.max(biasedExponent, 1) - 127 - 7);
}
