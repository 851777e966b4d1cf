/**
 * Returns the bf16 nearest to an f32, by definition. The f64 arithmetic is exact here. A bf16 has 8
 * significant bits. Ties go to the even neighbour. A result of 2^128 or more becomes infinity. A
 * result below the smallest normal number, 2^-126, becomes a zero of the same sign.
 *
 * `quantum` is the distance between neighbouring bf16 numbers around the value: see {@link
 * bf16Quantum}.
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
 * of its f32: 2^(e−7), where 2^e ≤ |value| < 2^(e+1) and e is at least −126.
 */
export function bf16Quantum(biasedExponent: number): number {
  return 2 ** (Math.max(biasedExponent, 1) - 127 - 7);
}
