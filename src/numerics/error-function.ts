import { polynomial, signOf } from './f32-helpers.ts';
import type { F32Ops } from './f32-ops.ts';
import { exp } from './transcendental.ts';

/**
 * Error function, 2/√π · ∫ e^(−t²) dt from 0 to x, within 2 ulp. For |x| < 1 it is a polynomial. For
 * larger |x| it is 1 − e^p, where the polynomial p is the logarithm of 1 − erf. From |x| = 4 on, the
 * nearest f32 is ±1.
 */
export function erf<V>(o: F32Ops<V>, x: V): V {
  const magnitude = o.abs(x);
  const z = o.mul(magnitude, magnitude);
  const small = o.add(o.mul(polynomial(o, z, nearCoefficients), magnitude), magnitude);
  const t = o.min(magnitude, o.constF32(4));
  const logarithm = o.sub(o.mul(polynomial(o, t, farCoefficients), t), t);
  const large = o.sub(o.constF32(1), exp(o, logarithm));
  return o.or(o.select(o.lt(magnitude, o.constF32(1)), small, large), signOf(o, x));
}

/** Coefficients of erf(√z) / √z − 1 for z up to 1, with an error of 2^-29 of the result. */
const nearCoefficients: readonly number[] = [
  7.8538576807e-5, -8.0101925117e-4, 5.1883275588e-3, -2.6853811868e-2, 1.1283585147e-1,
  -3.7612625824e-1, 1.2837916573e-1,
];

/** Coefficients of (log(1 − erf(t)) + t) / t for t in 1 … 4; the error of erf is below 2^-31. */
const farCoefficients: readonly number[] = [
  -1.4133838348e-5, 3.5233216798e-4, -3.7646602326e-3, 2.4025509107e-2, -1.0654910375e-1,
  -6.3495829704e-1, -1.2869715867e-1,
];
