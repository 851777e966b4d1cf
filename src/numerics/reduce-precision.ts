import { signOf } from './f32-helpers.ts';
import type { F32Ops } from './f32-ops.ts';

/** A format of floats, narrower than f32: the number of bits of the exponent and the mantissa. */
export interface FloatFormat {
  /** 1 or more. From 8 on, all exponents of f32 fit. */
  readonly exponentBits: number;
  /** 0 or more, without the leading one. From 23 on, the mantissa of f32 fits. */
  readonly mantissaBits: number;
}

/**
 * The f32 x rounded to a narrower format, as an f32 [XLA, ReducePrecision]. The mantissa is rounded
 * to the nearest value, ties to even. A value that is then too large becomes ±∞. A value that the
 * format cannot represent as a normal number becomes ±0; if the format has all exponents of f32,
 * subnormal numbers are rounded like others. NaN stays NaN, even if the format has no mantissa.
 */
export function reducePrecision<V>(o: F32Ops<V>, x: V, format: FloatFormat): V {
  const rounded = withRoundedMantissa(o, x, format.mantissaBits);
  const limited = withinExponents(o, rounded, format.exponentBits);
  return o.select(o.eq(x, x), limited, x);
}

/** Rounds at the last bit of the mantissa that stays. A carry goes on into the exponent. */
function withRoundedMantissa<V>(o: F32Ops<V>, x: V, mantissaBits: number): V {
  const dropped = 23 - mantissaBits;
  if (dropped <= 0) return x;
  const last = o.and(o.shrU(x, dropped), o.constI32(1));
  const bias = o.addI(o.constI32(2 ** (dropped - 1) - 1), last);
  return o.and(o.addI(x, bias), o.constI32(-(2 ** dropped)));
}

/** Makes values beyond the largest exponent ±∞, and values below the smallest exponent ±0. */
function withinExponents<V>(o: F32Ops<V>, x: V, exponentBits: number): V {
  if (exponentBits >= 8) return x;
  const bias = 2 ** (exponentBits - 1) - 1;
  const sign = signOf(o, x);
  const power = o.and(x, o.constI32(0x7f80_0000));
  const above = o.lt(o.constF32(2 ** bias), power);
  const below = o.le(power, o.constF32(2 ** -bias));
  const limited = o.select(above, o.or(sign, o.constF32(Infinity)), x);
  return o.select(below, sign, limited);
}
