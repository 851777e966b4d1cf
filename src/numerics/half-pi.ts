import { clampTo, exactSum, type Pair, sumInTwo } from './f32-helpers.ts';
import type { F32Ops } from './f32-ops.ts';

/**
 * π/2 as a sum of five parts. The first four parts have 11 bits each. Each part is multiplied by an
 * integer below 2^13. For the first four parts this product has at most 24 bits, so it is an exact
 * f32. The last part has 24 bits, so its product is rounded.
 */
const halfPiParts: readonly [number, number, number, number, number] = partsOfHalfPi();

function partsOfHalfPi(): [number, number, number, number, number] {
  // `bits` holds the first 89 bits of π/2 = 0x1.921fb54442d18469898cc51…p0: one bit before the
  // binary point and `total` bits behind it. `part` cuts out the `count` bits that start at bit
  // `from`, where bit 0 is the first of all.
  const bits = 0x1921fb54442d18469898cc5n;
  const total = 88n;
  const part = (from: bigint, count: bigint): number => {
    const cut = (bits >> (total + 1n - from - count)) & ((1n << count) - 1n);
    return Number(cut) * 2 ** -Number(from + count - 1n);
  };
  return [part(0n, 11n), part(11n, 11n), part(22n, 11n), part(33n, 11n), part(44n, 24n)];
}

/**
 * Splits x ≥ 0 into quadrant · π/2 + r. For x up to 2^13, |r| is at most π/4. For larger x, r has a
 * larger error, and |r| is limited to 0.8.
 */
export function reduceByHalfPi<V>(o: F32Ops<V>, x: V): { readonly quadrant: V; readonly r: V } {
  const { n, high, lost } = withoutThreeParts(o, x);
  const [, , , d, e] = halfPiParts;
  const rest = o.add(o.mul(n, o.constF32(d)), o.mul(n, o.constF32(e)));
  const r = o.add(high, o.sub(lost, rest));
  return { quadrant: o.i32FromF32Trunc(n), r: clampTo(o, r, -0.8, 0.8) };
}

/**
 * Like {@link reduceByHalfPi}, but r is a sum of two f32. For x up to 2^13, it has at least 36 exact
 * bits.
 */
export function reduceByHalfPiInTwo<V>(
  o: F32Ops<V>,
  x: V,
): { readonly quadrant: V; readonly r: Pair<V> } {
  const { n, high, lost } = withoutThreeParts(o, x);
  const [, , , d, e] = halfPiParts;
  const most = exactSum(o, high, o.neg(o.mul(n, o.constF32(d))));
  const rest = o.sub(o.add(lost, most.low), o.mul(n, o.constF32(e)));
  const r = sumInTwo(o, most.high, rest);
  return {
    quadrant: o.i32FromF32Trunc(n),
    r: { high: clampTo(o, r.high, -0.8, 0.8), low: clampTo(o, r.low, -(2 ** -24), 2 ** -24) },
  };
}

/**
 * Subtracts n times the first three parts of π/2 from x, where n is the integer nearest to x / (π/2).
 * The difference is `high` + `lost`, without error for x up to 2^13.
 */
function withoutThreeParts<V>(
  o: F32Ops<V>,
  x: V,
): { readonly n: V; readonly high: V; readonly lost: V } {
  const n = o.nearest(o.mul(x, o.constF32(2 / Math.PI)));
  const times = (part: number): V => o.mul(n, o.constF32(part));
  const [a, b, c] = halfPiParts;
  const exact = o.sub(o.sub(x, times(a)), times(b));
  const third = times(c);
  const high = o.sub(exact, third);
  return { n, high, lost: o.sub(o.sub(exact, high), third) };
}
