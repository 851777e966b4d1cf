import {
  mantissaAndExponent,
  polynomial,
  powerOfTwo,
  productInTwo,
  signOf,
} from './f32-helpers.ts';
import type { F32Ops } from './f32-ops.ts';

/**
 * Cube root, within 0.51 ulp. ±0, ±∞ and NaN stay as they are. The function splits |x| into z ·
 * 2^(3k) with 0.35 ≤ z < 2.83.
 */
export function cbrt<V>(o: F32Ops<V>, x: V): V {
  const magnitude = o.abs(x);
  const one = o.constF32(1);
  const { exponent, m } = mantissaAndExponent(o, magnitude);
  const k = o.nearest(o.mul(exponent, o.constF32(1 / 3)));
  const rest = o.sub(exponent, o.mul(k, o.constF32(3)));
  const z = o.mul(o.add(m, one), powerOfTwo(o, o.i32FromF32Trunc(rest)));
  const root = o.mul(rootOf(o, z), powerOfTwo(o, o.i32FromF32Trunc(k)));
  const plain = o.and(o.lt(o.constF32(0), magnitude), o.lt(magnitude, o.constF32(Infinity)));
  return o.select(plain, o.or(root, signOf(o, x)), x);
}

/** Coefficients of ∛z for z in 0.35 … 2.83, with a relative error of 0.6 %. */
const coefficients: readonly number[] = [
  3.7007573825e-2, -2.4498300492e-1, 7.2903866666e-1, 4.8202812552e-1,
];

/**
 * ∛z: a polynomial, then one step of Halley's method, then one step of Newton's method. The last
 * step computes t³ − z exactly enough that almost only its own rounding is left.
 */
function rootOf<V>(o: F32Ops<V>, z: V): V {
  const t = halleyStep(o, polynomial(o, z, coefficients), z);
  const square = productInTwo(o, t, t);
  const cube = productInTwo(o, square.high, t);
  const excess = o.add(o.add(o.sub(cube.high, z), cube.low), o.mul(square.low, t));
  return o.sub(t, o.div(excess, o.mul(square.high, o.constF32(3))));
}

/** t · (t³ + 2z) / (2t³ + z), which is nearer to ∛z than t. */
function halleyStep<V>(o: F32Ops<V>, t: V, z: V): V {
  const cube = o.mul(o.mul(t, t), t);
  const numerator = o.add(cube, o.add(z, z));
  return o.mul(t, o.div(numerator, o.add(o.add(cube, cube), z)));
}
