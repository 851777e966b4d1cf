import { polynomial, productInTwo, signOf, sumInTwo } from './f32-helpers.ts';
import type { F32Ops } from './f32-ops.ts';

/**
 * Angle of the point (x, y) in radians, −π … π, within 2 ulp, with the special cases of C99's atan2.
 * The sign of the result is that of y, also for y = ±0.
 */
export function atan2<V>(o: F32Ops<V>, y: V, x: V): V {
  const [ofX, ofY] = [o.abs(x), o.abs(y)];
  const { quotient, lost } = quotientOf(o, o.min(ofX, ofY), o.max(ofX, ofY));
  const steep = o.lt(ofX, ofY);
  const left = o.shrS(x, 31);
  // The angle is base + a or base − a, where a is the arc tangent of the quotient.
  const base = o.select(steep, o.constF32(Math.PI / 2), o.and(left, o.constF32(Math.PI)));
  const baseLow = o.select(steep, o.constF32(halfPiLow), o.and(left, o.constF32(2 * halfPiLow)));
  const turned = o.and(o.xor(left, steep), o.constI32(0x8000_0000));
  const tail = o.xor(arcTangentTail(o, quotient, lost), turned);
  const sum = sumInTwo(o, base, o.xor(quotient, turned));
  return o.or(o.add(sum.high, o.add(o.add(sum.low, baseLow), tail)), signOf(o, y));
}

/** π/2 minus the f32 nearest to it. */
const halfPiLow: number = Math.PI / 2 - Math.fround(Math.PI / 2);

/** Coefficients of (atan √z / √z − 1) / z for z up to 1, with a relative error of 2^-28. */
const coefficients: readonly number[] = [
  -1.793593885e-3, 1.0914480986e-2, -3.1177612973e-2, 5.7957359497e-2, -8.4034366484e-2,
  1.0952181098e-1, -1.426424079e-1, 1.9998548201e-1, -3.3333299086e-1,
];

/** atan(quotient + lost) − quotient for 0 ≤ quotient ≤ 1 and a tiny `lost`. */
function arcTangentTail<V>(o: F32Ops<V>, quotient: V, lost: V): V {
  const z = o.mul(quotient, quotient);
  const tail = o.mul(o.mul(polynomial(o, z, coefficients), z), quotient);
  return o.add(tail, o.div(lost, o.add(z, o.constF32(1))));
}

/**
 * The quotient of two magnitudes, 0 ≤ small ≤ large, rounded to f32, and its rounding error `lost`.
 * 0 / 0 is 0 and ∞ / ∞ is 1, as atan2 needs them. For quotients below 2^-12, `lost` is 0: the
 * rounding error is then at most half a unit in the last place of the angle.
 */
function quotientOf<V>(
  o: F32Ops<V>,
  small: V,
  large: V,
): { readonly quotient: V; readonly lost: V } {
  const infinity = o.constF32(Infinity);
  // Numbers below 2^-60 are scaled, so that the product below has no subnormal parts.
  const scale = o.select(o.lt(large, o.constF32(2 ** -60)), o.constF32(2 ** 80), o.constF32(1));
  const numerator = o.mul(small, scale);
  const divisor = o.mul(large, scale);
  const plain = o.div(numerator, divisor);
  const back = productInTwo(o, plain, divisor);
  const rest = o.sub(o.sub(numerator, back.high), back.low);
  const counts = o.and(o.le(o.constF32(2 ** -12), plain), o.lt(large, infinity));
  const lost = o.and(counts, o.div(rest, divisor));
  const edge = o.select(o.eq(small, infinity), o.constF32(1), plain);
  return { quotient: o.select(o.eq(large, o.constF32(0)), o.constF32(0), edge), lost };
}
