/** Small kernels over f32 or other 32-bit words. Addresses are in bytes, counts in words. */

export function copy(to: usize, from: usize, count: i32): void {
  memory.copy(to, from, (<usize>count) << 2);
}

/** Sets every word to `value`. */
export function fill(to: usize, count: i32, value: f32): void {
  const x = f32x4.splat(value);
  for (; count >= 4; count -= 4) {
    v128.store(to, x);
    to += 16;
  }
  for (; count > 0; count--) {
    store<f32>(to, value);
    to += 4;
  }
}

/** Adds f32 arrays: to = a + b. `to` may be the same array as `a` or `b`. */
export function add(to: usize, a: usize, b: usize, count: i32): void {
  for (; count >= 8; count -= 8) {
    const x = f32x4.add(v128.load(a), v128.load(b));
    const y = f32x4.add(v128.load(a, 16), v128.load(b, 16));
    v128.store(to, x);
    v128.store(to, y, 16);
    to += 32;
    a += 32;
    b += 32;
  }
  for (; count > 0; count--) {
    store<f32>(to, load<f32>(a) + load<f32>(b));
    to += 4;
    a += 4;
    b += 4;
  }
}

// ---------------------------------------------------------------------------------------- digest

const LANES: i32 = 16;

/**
 * Computes the digest that numerics/digest.ts defines. The 16 lanes of the digest are in SIMD
 * registers.
 */
export function digest(at: usize, count: i32, seed: u64): u64 {
  const low = <i32>seed;
  const high = <i32>(seed >>> 32);
  let p0 = i32x4.add(i32x4.splat(low), i32x4(0, 1, 2, 3));
  let p1 = i32x4.add(i32x4.splat(low), i32x4(4, 5, 6, 7));
  let p2 = i32x4.add(i32x4.splat(low), i32x4(8, 9, 10, 11));
  let p3 = i32x4.add(i32x4.splat(low), i32x4(12, 13, 14, 15));
  let q0 = i32x4.add(i32x4.splat(high), i32x4(0, 1, 2, 3));
  let q1 = i32x4.add(i32x4.splat(high), i32x4(4, 5, 6, 7));
  let q2 = i32x4.add(i32x4.splat(high), i32x4(8, 9, 10, 11));
  let q3 = i32x4.add(i32x4.splat(high), i32x4(12, 13, 14, 15));
  let left = count;
  for (; left >= LANES; left -= LANES) {
    const w0 = canonical(v128.load(at));
    const w1 = canonical(v128.load(at, 16));
    const w2 = canonical(v128.load(at, 32));
    const w3 = canonical(v128.load(at, 48));
    p0 = firstRound(p0, w0);
    p1 = firstRound(p1, w1);
    p2 = firstRound(p2, w2);
    p3 = firstRound(p3, w3);
    q0 = secondRound(q0, w0);
    q1 = secondRound(q1, w1);
    q2 = secondRound(q2, w2);
    q3 = secondRound(q3, w3);
    at += 64;
  }
  if (left > 0) {
    const w0 = canonical(partial(at, left));
    const w1 = canonical(partial(at + 16, left - 4));
    const w2 = canonical(partial(at + 32, left - 8));
    const w3 = canonical(partial(at + 48, left - 12));
    p0 = firstRound(p0, w0);
    p1 = firstRound(p1, w1);
    p2 = firstRound(p2, w2);
    p3 = firstRound(p3, w3);
    q0 = secondRound(q0, w0);
    q1 = secondRound(q1, w1);
    q2 = secondRound(q2, w2);
    q3 = secondRound(q3, w3);
  }
  const first = joined(joined(joined(joined(count, p0), p1), p2), p3);
  const second = joined(joined(joined(joined(~count, q0), q1), q2), q3);
  return (<u64>(<u32>second) << 32) | <u64>(<u32>first);
}

/**
 * Loads the first `count` (at most 4) words at `at` into a vector. The remaining lanes are zero.
 */
function partial(at: usize, count: i32): v128 {
  let x = i32x4.splat(0);
  if (count > 0) x = v128.load32_lane(at, x, 0);
  if (count > 1) x = v128.load32_lane(at + 4, x, 1);
  if (count > 2) x = v128.load32_lane(at + 8, x, 2);
  if (count > 3) x = v128.load32_lane(at + 12, x, 3);
  return x;
}

// @ts-ignore: decorator
@inline
function canonical(x: v128): v128 {
  return v128.bitselect(x, i32x4.splat(0x7fc0_0000), f32x4.eq(x, x));
}
// @ts-ignore: decorator
@inline
function firstRound(h: v128, w: v128): v128 {
  h = i32x4.mul(v128.xor(h, w), i32x4.splat(0x9e37_79b1));
  return v128.xor(h, i32x4.shr_u(h, 15));
}
// @ts-ignore: decorator
@inline
function secondRound(h: v128, w: v128): v128 {
  h = i32x4.mul(i32x4.add(h, w), i32x4.splat(0x85eb_ca77));
  return v128.xor(h, i32x4.shr_u(h, 13));
}

function joined(h: i32, lanes: v128): i32 {
  h = mixed(h ^ i32x4.extract_lane(lanes, 0));
  h = mixed(h ^ i32x4.extract_lane(lanes, 1));
  h = mixed(h ^ i32x4.extract_lane(lanes, 2));
  return mixed(h ^ i32x4.extract_lane(lanes, 3));
}
function mixed(h: i32): i32 {
  h = (h ^ (h >>> 16)) * 0x85eb_ca6b;
  h = (h ^ (h >>> 13)) * 0xc2b2_ae35;
  return h ^ (h >>> 16);
}

// ---------------------------------------------------------------------------------------- philox

/**
 * Writes `count` random words to address `to`. The generator Philox 4×32-10 computes four random
 * words from the key and a 128-bit counter; for the next four, it advances the counter by one.
 * `counter0` is the lowest 32 bits of the counter for the first four random words. [Salmon et al.,
 * SC 2011]
 */
export function philox(
  to: usize,
  count: i32,
  key0: u32,
  key1: u32,
  counter0: u32,
  counter1: u32,
  counter2: u32,
  counter3: u32,
): void {
  while (count > 0) {
    let a = counter0;
    let b = counter1;
    let c = counter2;
    let d = counter3;
    let k0 = key0;
    let k1 = key1;
    for (let round = 0; round < 10; round++) {
      const x = <u64>a * 0xd251_1f53;
      const y = <u64>c * 0xcd9e_8d57;
      a = <u32>(y >>> 32) ^ b ^ k0;
      c = <u32>(x >>> 32) ^ d ^ k1;
      b = <u32>y;
      d = <u32>x;
      k0 += 0x9e37_79b9;
      k1 += 0xbb67_ae85;
    }
    store<u32>(to, a);
    if (count > 1) store<u32>(to, b, 4);
    if (count > 2) store<u32>(to, c, 8);
    if (count > 3) store<u32>(to, d, 12);
    to += 16;
    count -= 4;
    if (++counter0 == 0 && ++counter1 == 0 && ++counter2 == 0) ++counter3;
  }
}
