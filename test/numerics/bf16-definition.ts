/**
 * Rounds the f32 `value` to bf16, by definition. `quantum` is the distance between neighbouring
 * bf16 numbers around the value; {@link bf16Quantum} returns it. The result is the multiple of
 * `quantum` that is nearest to the value. If two multiples are equally near, the result is the even
 * one. A result with a magnitude of 2^128 or more becomes infinity. A result with a magnitude below
 * 2^-126, the smallest normal number, becomes zero. Infinity and zero keep the sign.
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
 * Returns the distance between neighbouring bf16 numbers around a value. `biasedExponent` is the
 * exponent field of the value as f32. Let e be the exponent of the value, so that
 * 2^e ≤ |value| < 2^(e+1). If e is below −126, e counts as −126. A bf16 has 8 significant bits, so
 * the distance is 2^(e−7).
 */
export function bf16Quantum(biasedExponent: number): number {
  return 2 ** (Math.max(biasedExponent, 1) - 127 - 7);
}
