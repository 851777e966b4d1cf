import { type Pair, polynomial, productInTwo, signOf, sumInTwo } from './f32-helpers.ts';
import type { F32Ops } from './f32-ops.ts';
import { reduceByHalfPiInTwo } from './half-pi.ts';

/**
 * Tangent of x in radians, within 2 ulp for |x| ≤ 2^13. For larger |x|, the error grows with |x|.
 * NaN for ±∞.
 */
export function tan<V>(o: F32Ops<V>, x: V): V {
  const { quadrant, r } = reduceByHalfPiInTwo(o, o.abs(x));
  const tangent = tangentOfSmall(o, r);
  const odd = o.shrS(o.shl(quadrant, 31), 31);
  return o.xor(o.select(odd, negatedInverse(o, tangent), tangent.high), signOf(o, x));
}

/** Coefficients of (tan √z / √z − 1) / z for z up to 0.625, with a relative error of 2^-29. */
const coefficients: readonly number[] = [
  4.4481021038e-3, -5.3045118878e-5, 1.0945759331e-2, 2.1240803017e-2, 5.4067719318e-2,
  1.333259646e-1, 3.3333351637e-1,
];

/** tan(r) for |r| ≤ 0.8. The derivative 1 + tan² r brings in the low part of r. */
function tangentOfSmall<V>(o: F32Ops<V>, { high, low }: Pair<V>): Pair<V> {
  const z = o.mul(high, high);
  const tail = o.mul(o.mul(polynomial(o, z, coefficients), z), high);
  const near = o.add(high, tail);
  const slope = o.add(o.mul(near, near), o.constF32(1));
  return sumInTwo(o, high, o.add(tail, o.mul(low, slope)));
}

/** −1 / t. The quotient is corrected once, for the low part of t and for its own rounding error. */
function negatedInverse<V>(o: F32Ops<V>, t: Pair<V>): V {
  const one = o.constF32(1);
  const quotient = o.neg(o.div(one, t.high));
  const product = productInTwo(o, quotient, t.high);
  const lost = o.add(o.add(o.add(product.high, one), product.low), o.mul(quotient, t.low));
  return o.add(quotient, o.mul(quotient, lost));
}
