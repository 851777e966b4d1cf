import {
  clampTo,
  mantissaAndExponent,
  type Pair,
  polynomial,
  powerOfTwo,
  productInTwo,
  signOf,
  sumInTwo,
} from './f32-helpers.ts';
import type { F32Ops } from './f32-ops.ts';
import { reduceByHalfPi } from './half-pi.ts';

/*
 * Transcendental functions of the vector unit. Each is a fixed sequence of f32 operations without a
 * branch, so `evaluate` (on one number) and generated code (on four lanes) compute the same bits.
 * Stated errors are in units of the last place (ulp), measured against f64 over the whole range by
 * test/numerics/transcendental.test.ts. The polynomials are those of Cephes in single precision.
 * [Moshier, netlib.org/cephes]
 */

/** e^x, within 1 ulp, subnormal results included. */
export function exp<V>(o: F32Ops<V>, x: V): V {
  const { n, r } = reduceByLn2(o, clampTo(o, x, -105, 89));
  return scaleBy(o, o.add(expm1OfSmall(o, r), o.constF32(1)), n);
}

/** e^x − 1, within 2 ulp. */
export function expm1<V>(o: F32Ops<V>, x: V): V {
  const one = o.constF32(1);
  const { n, r } = reduceByLn2(o, clampTo(o, x, -18, 89));
  const limited = o.min(n, o.constF32(126));
  const inverse = powerOfTwo(o, o.subI(o.constI32(0), o.i32FromF32Trunc(limited)));
  const sum = o.add(expm1OfSmall(o, r), o.sub(one, inverse));
  return o.select(o.eq(x, o.constF32(0)), x, scaleBy(o, sum, n));
}

/** Natural logarithm, within 1 ulp. Returns −∞ for 0, and NaN for negative numbers. */
export function log<V>(o: F32Ops<V>, x: V): V {
  const { exponent, m } = mantissaAndExponent(o, x);
  const z = o.mul(m, m);
  const p = o.mul(o.mul(polynomial(o, m, logCoefficients), m), z);
  const low = o.add(p, o.mul(exponent, o.constF32(-2.1219444e-4)));
  const y = o.sub(low, o.mul(z, o.constF32(0.5)));
  const result = o.add(o.add(m, y), o.mul(exponent, o.constF32(0.693359375)));
  return edgesOfLog(o, x, result);
}

/**
 * log(1 + x), within 3 ulp. Let u be 1 + x rounded to f32, and let d be u − 1. The result is log(u)
 * · x / d. The factor x / d makes up for the rounding error of u. [Kahan]
 */
export function log1p<V>(o: F32Ops<V>, x: V): V {
  const one = o.constF32(1);
  const u = o.add(x, one);
  const d = o.sub(u, one);
  const same = o.or(o.eq(d, o.constF32(0)), o.eq(x, o.constF32(Infinity)));
  return o.select(same, x, o.mul(log(o, u), o.div(x, d)));
}

/** Hyperbolic tangent, within 2 ulp. */
export function tanh<V>(o: F32Ops<V>, x: V): V {
  const one = o.constF32(1);
  const two = o.constF32(2);
  const a = o.abs(x);
  const z = o.mul(a, a);
  const small = o.add(o.mul(o.mul(polynomial(o, z, tanhCoefficients), z), a), a);
  const e = exp(o, o.mul(two, o.min(a, o.constF32(10))));
  const large = o.sub(one, o.div(two, o.add(e, one)));
  return o.or(o.select(o.lt(a, o.constF32(0.625)), small, large), signOf(o, x));
}

/** 1 / (1 + e^−x), within 2 ulp. */
export function logistic<V>(o: F32Ops<V>, x: V): V {
  const one = o.constF32(1);
  const e = exp(o, o.neg(o.abs(x)));
  const negative = o.lt(x, o.constF32(0));
  const quotient = o.div(o.select(negative, e, one), o.add(one, e));
  // For negative x the result is e/(1+e) with e = exp(x). For small e, the equal form e − e·e/(1+e)
  // is more exact: there the rounding error of 1 + e affects only the small term e·e/(1+e).
  const far = o.and(negative, o.lt(e, o.constF32(0.25)));
  return o.select(far, o.sub(e, o.mul(e, quotient)), quotient);
}

/**
 * Sine of x in radians, within 2 ulp for |x| ≤ 2^13. For larger |x|, the error grows with |x|. NaN
 * for ±∞.
 */
export function sin<V>(o: F32Ops<V>, x: V): V {
  const { quadrant, r } = reduceByHalfPi(o, o.abs(x));
  return o.xor(sineOfQuadrant(o, quadrant, r), signOf(o, x));
}

/**
 * Cosine of x in radians, within 2 ulp for |x| ≤ 2^13. For larger |x|, the error grows with |x|.
 * NaN for ±∞.
 */
export function cos<V>(o: F32Ops<V>, x: V): V {
  const { quadrant, r } = reduceByHalfPi(o, o.abs(x));
  return sineOfQuadrant(o, o.addI(quadrant, o.constI32(1)), r);
}

/** 1 / √x. The square root and the quotient are each rounded to f32. */
export function rsqrt<V>(o: F32Ops<V>, x: V): V {
  return o.div(o.constF32(1), o.sqrt(x));
}

/**
 * x^y, within 3 ulp, with the special cases of C99's pow. The result is 1 for y = 0 and for x = 1.
 * For finite x < 0, the result is NaN if y is not an integer, negative if y is odd, and positive if
 * y is even.
 */
export function power<V>(o: F32Ops<V>, x: V, y: V): V {
  const zero = o.constF32(0);
  const magnitude = o.abs(x);
  const result = powerOfMagnitude(o, magnitude, clampTo(o, y, -(2 ** 32), 2 ** 32));

  const below = o.lt(y, zero);
  const infinity = o.constF32(Infinity);
  const ofZero = o.select(below, infinity, zero);
  const ofInfinity = o.select(below, zero, infinity);
  const positive = o.select(
    o.eq(magnitude, zero),
    ofZero,
    o.select(o.eq(magnitude, infinity), ofInfinity, result),
  );

  const half = o.mul(y, o.constF32(0.5));
  const whole = o.eq(o.nearest(y), y);
  const even = o.eq(o.nearest(half), half);
  const oddSign = o.select(even, zero, signOf(o, x));
  const ofNegative = o.select(whole, o.or(positive, oddSign), o.constF32(NaN));
  // x = −0 and x = −∞ are special cases: the result is negative for an odd integer y and positive
  // for every other y, also if y is not an integer.
  const edge = o.or(o.eq(magnitude, zero), o.eq(magnitude, infinity));
  const signed = o.select(
    o.lt(x, zero),
    o.select(edge, o.or(positive, o.and(oddSign, whole)), ofNegative),
    o.or(positive, o.and(oddSign, whole)),
  );
  const defined = o.select(o.eq(x, x), o.select(o.eq(y, y), signed, y), x);
  return o.select(o.or(o.eq(y, zero), o.eq(x, o.constF32(1))), o.constF32(1), defined);
}

const expCoefficients: readonly number[] = [
  1.98756915e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1,
  5.0000001201e-1,
];
const logCoefficients: readonly number[] = [
  7.0376836292e-2, -1.151461031e-1, 1.167699874e-1, -1.2420140846e-1, 1.4249322787e-1,
  -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1,
];
const tanhCoefficients: readonly number[] = [
  -5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1,
];
const sineCoefficients: readonly number[] = [-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1];
const cosineCoefficients: readonly number[] = [
  2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2,
];

/**
 * Splits x into n · ln 2 + r, with |r| ≤ ln 2 / 2. n is an integer that is stored as f32. [Cody and
 * Waite]
 */
function reduceByLn2<V>(o: F32Ops<V>, x: V): { readonly n: V; readonly r: V } {
  const n = o.nearest(o.mul(x, o.constF32(Math.LOG2E)));
  const high = o.sub(x, o.mul(n, o.constF32(0.693359375)));
  return { n, r: o.sub(high, o.mul(n, o.constF32(-2.1219444e-4))) };
}

/** e^r − 1 for |r| ≤ ln 2 / 2. */
function expm1OfSmall<V>(o: F32Ops<V>, r: V): V {
  return o.add(o.mul(polynomial(o, r, expCoefficients), o.mul(r, r)), r);
}

/**
 * x · 2^n for n in −152 … 130, rounded once. For some of these n, 2^n is too large or too small for
 * an f32. The function therefore multiplies x by two powers of two whose product is 2^n.
 */
function scaleBy<V>(o: F32Ops<V>, x: V, n: V): V {
  const whole = o.i32FromF32Trunc(n);
  const half = o.shrS(whole, 1);
  return o.mul(o.mul(x, powerOfTwo(o, half)), powerOfTwo(o, o.subI(whole, half)));
}

function edgesOfLog<V>(o: F32Ops<V>, x: V, result: V): V {
  const zero = o.constF32(0);
  const positive = o.select(o.eq(x, zero), o.constF32(-Infinity), result);
  const finite = o.select(o.lt(x, o.constF32(Infinity)), positive, x);
  return o.select(o.lt(x, zero), o.constF32(NaN), finite);
}

/** sin(quadrant · π/2 + r) for |r| ≤ 0.8. */
function sineOfQuadrant<V>(o: F32Ops<V>, quadrant: V, r: V): V {
  const z = o.mul(r, r);
  const sine = o.add(o.mul(o.mul(polynomial(o, z, sineCoefficients), z), r), r);
  const tail = o.mul(o.mul(polynomial(o, z, cosineCoefficients), z), z);
  const cosine = o.add(o.sub(tail, o.mul(z, o.constF32(0.5))), o.constF32(1));
  const odd = o.shrS(o.shl(quadrant, 31), 31);
  const negative = o.and(o.shl(quadrant, 30), o.constI32(0x8000_0000));
  return o.xor(o.select(odd, cosine, sine), negative);
}

/**
 * x^y for finite x > 0 and |y| ≤ 2^32, computed as 2^(y · log2 x). The factor y multiplies the
 * error of the logarithm too. The logarithm therefore needs more exact bits than an f32 holds; it
 * has about 40.
 */
function powerOfMagnitude<V>(o: F32Ops<V>, x: V, y: V): V {
  const logarithm = log2InTwo(o, x);
  const product = productInTwo(o, y, logarithm.high);
  const rest = o.add(product.low, o.mul(y, logarithm.low));
  const beyond = o.lt(o.constF32(151), o.abs(product.high));
  const bounded = clampTo(o, product.high, -151, 151);
  const n = clampTo(o, o.nearest(bounded), -151, 129);
  const fraction = o.add(o.sub(bounded, n), o.select(beyond, o.constF32(0), rest));
  const r = o.mul(clampTo(o, fraction, -1, 1), o.constF32(Math.LN2));
  return scaleBy(o, o.add(expm1OfSmall(o, r), o.constF32(1)), n);
}

/**
 * log2 of a finite x > 0, as a sum of two f32. The function splits x = 2^exponent · (1 + m) and
 * uses the series log(1 + m) = 2(s + s³/3 + s⁵/5 + …) with s = m / (m + 2).
 */
function log2InTwo<V>(o: F32Ops<V>, x: V): Pair<V> {
  const { exponent, m } = mantissaAndExponent(o, x);
  const s = quotientInTwo(o, m, o.add(m, o.constF32(2)), m);
  const scale = 2 / Math.LN2;
  const scaleHigh = o.constF32(scale);
  const scaleLow = o.constF32(scale - Math.fround(scale));
  const square = o.mul(s.high, s.high);
  const series = [11, 9, 7, 5, 3].map((k) => scale / k);
  const tail = o.mul(o.mul(polynomial(o, square, series), square), s.high);
  const first = productInTwo(o, s.high, scaleHigh);
  const cross = o.add(o.mul(s.high, scaleLow), o.mul(s.low, scaleHigh));
  const low = o.add(tail, o.add(first.low, cross));
  const sum = sumInTwo(o, exponent, first.high);
  return sumInTwo(o, sum.high, o.add(sum.low, low));
}

/**
 * numerator / (m + 2), as a sum of two f32. `divisor` is m + 2 rounded to f32. The function
 * computes the error of this rounding from `m`, and corrects the quotient for the error.
 */
function quotientInTwo<V>(o: F32Ops<V>, m: V, divisor: V, numerator: V): Pair<V> {
  const lost = o.sub(m, o.sub(divisor, o.constF32(2)));
  const high = o.div(numerator, divisor);
  const back = productInTwo(o, high, divisor);
  const rest = o.sub(o.sub(o.sub(numerator, back.high), back.low), o.mul(high, lost));
  return { high, low: o.div(rest, divisor) };
}
