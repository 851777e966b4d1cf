import type { F32Ops } from './f32-ops.ts';

/*
 * Parts that the transcendental functions share. Like these functions, they are fixed sequences of
 * f32 operations without a branch.
 */

/** Evaluates a polynomial by Horner's rule. The first coefficient belongs to the highest power. */
export function polynomial<V>(o: F32Ops<V>, x: V, coefficients: readonly number[]): V {
  const [first, ...rest] = coefficients.map((c) => o.constF32(c));
  return rest.reduce((sum, c) => o.add(o.mul(sum, x), c), first!);
}

/** Limits x to `least` … `most`. NaN stays NaN. */
export function clampTo<V>(o: F32Ops<V>, x: V, least: number, most: number): V {
  return o.min(o.max(x, o.constF32(least)), o.constF32(most));
}

/** The sign bit of x; all other bits are 0. */
export function signOf<V>(o: F32Ops<V>, x: V): V {
  return o.and(x, o.constI32(0x8000_0000));
}

/** 2^n as an f32 for an integer n in −126 … 127. */
export function powerOfTwo<V>(o: F32Ops<V>, n: V): V {
  return o.shl(o.addI(n, o.constI32(127)), 23);
}

/** Splits a finite x > 0, subnormal or not, into 2^exponent · (1 + m) with √½ ≤ 1 + m < √2. */
export function mantissaAndExponent<V>(
  o: F32Ops<V>,
  x: V,
): { readonly exponent: V; readonly m: V } {
  const one = o.constF32(1);
  const subnormal = o.lt(x, o.constF32(2 ** -126));
  const normal = o.select(subnormal, o.mul(x, o.constF32(2 ** 24)), x);
  const biased = o.subI(o.shrU(normal, 23), o.select(subnormal, o.constI32(150), o.constI32(126)));
  const fraction = o.or(
    o.and(normal, o.constI32(0x007f_ffff)),
    o.constI32(0x3f00_0000), // 0.5 ≤ fraction < 1
  );
  const low = o.lt(fraction, o.constF32(Math.SQRT1_2));
  const exponent = o.sub(o.f32FromI32(biased), o.and(low, one));
  return { exponent, m: o.sub(o.add(fraction, o.and(low, fraction)), one) };
}

/** A number as a sum of two f32: `high` is the number rounded to f32, `low` the rounding error. */
export interface Pair<V> {
  readonly high: V;
  readonly low: V;
}

/**
 * a + b without error, as a sum of two f32: the rounded sum and the rounding error. Requires |a| ≥
 * |b| or a = 0. [Dekker]
 */
export function sumInTwo<V>(o: F32Ops<V>, a: V, b: V): Pair<V> {
  const high = o.add(a, b);
  return { high, low: o.sub(b, o.sub(high, a)) };
}

/**
 * a · b as a sum of two f32: the rounded product and the rounding error. Exact if nothing overflows
 * or underflows. The function splits a and b into halves by masking bits. [Dekker]
 */
export function productInTwo<V>(o: F32Ops<V>, a: V, b: V): Pair<V> {
  const upper = o.constI32(0xffff_f000);
  const aHigh = o.and(a, upper);
  const bHigh = o.and(b, upper);
  const aLow = o.sub(a, aHigh);
  const bLow = o.sub(b, bHigh);
  const high = o.mul(a, b);
  const first = o.sub(o.mul(aHigh, bHigh), high);
  const crossed = o.add(o.add(first, o.mul(aHigh, bLow)), o.mul(aLow, bHigh));
  return { high, low: o.add(crossed, o.mul(aLow, bLow)) };
}

/**
 * a + b without error, as a sum of two f32, for any a and b whose sum does not overflow. It takes
 * twice as many operations as {@link sumInTwo}. [Knuth]
 */
export function exactSum<V>(o: F32Ops<V>, a: V, b: V): Pair<V> {
  const high = o.add(a, b);
  const ofB = o.sub(high, a);
  const ofA = o.sub(high, ofB);
  return { high, low: o.add(o.sub(a, ofA), o.sub(b, ofB)) };
}
