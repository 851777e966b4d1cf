/**
 * The bf16 nearest to an f32, by its definition and with f64 arithmetic, which is exact here: bf16
 * has 8 significant bits; ties go to the even one; the next power of two beyond the largest is
 * infinity; results below the smallest normal, 2^-126, are zeros of the same sign.
 *
 * `quantum` is the distance of neighbouring bf16 around the value: see {@link bf16Quantum}.
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

/** 2^(e−7) where 2^e ≤ |value| < 2^(e+1), e at least −126; from the biased exponent of the f32. */
export function bf16Quantum(biasedExponent: number): number {
  return 2 ** (Math.max(biasedExponent, 1) - 127 - 7);
}
