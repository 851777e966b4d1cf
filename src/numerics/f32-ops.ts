/**
 * Operations on one lane of a WASM SIMD vector. A lane has 32 bits, which are an f32 or an integer.
 * Each function of transcendental.ts is written once, with these operations, and runs on every
 * implementation of this interface. {@link scalarOps} computes numbers; a code generator emits WASM
 * instructions.
 *
 * f32 operations round to nearest even and keep subnormals. The payload of a NaN result is
 * unspecified. There is no fused multiply-add, because WASM's `relaxed_madd` rounds once on some
 * machines and twice on others, so results would differ between machines.
 */
export interface F32Ops<V> {
  /** The f32 nearest to `value`. */
  constF32(value: number): V;
  constI32(value: number): V;
  add(a: V, b: V): V;
  sub(a: V, b: V): V;
  mul(a: V, b: V): V;
  div(a: V, b: V): V;
  sqrt(a: V): V;
  neg(a: V): V;
  abs(a: V): V;
  /** `min` and `max` return NaN if either operand is NaN. They order −0 below +0. */
  min(a: V, b: V): V;
  max(a: V, b: V): V;
  /** Rounds an f32 to the nearest integral value, ties to even. */
  nearest(a: V): V;
  /**
   * `lt`, `le` and `eq` compare two f32. The result is a mask: all 32 bits set for true, none for
   * false. A comparison with NaN is false.
   */
  lt(a: V, b: V): V;
  le(a: V, b: V): V;
  eq(a: V, b: V): V;
  /** Takes each bit from `a` where `mask` has a one, and from `b` where `mask` has a zero. */
  select(mask: V, a: V, b: V): V;
  and(a: V, b: V): V;
  or(a: V, b: V): V;
  xor(a: V, b: V): V;
  /** Shifts by a constant of 0 … 31 bits. `shrU` fills with zeros, `shrS` with the sign bit. */
  shl(a: V, count: number): V;
  shrU(a: V, count: number): V;
  shrS(a: V, count: number): V;
  /** `addI` and `subI` add and subtract 32-bit integers, modulo 2^32. */
  addI(a: V, b: V): V;
  subI(a: V, b: V): V;
  /** Converts a signed 32-bit integer to the nearest f32. */
  f32FromI32(a: V): V;
  /**
   * Converts an f32 to a signed 32-bit integer: rounds towards zero, saturates, and makes NaN 0.
   */
  i32FromF32Trunc(a: V): V;
}

const word: Int32Array = new Int32Array(1);
const float: Float32Array = new Float32Array(word.buffer);

/** Returns the bits of the f32 nearest to `value`, as a signed integer. */
export function bitsFromF32(value: number): number {
  float[0] = value;
  return word[0]!;
}

/** Returns the number that an f32 with the bit pattern `bits` represents. */
export function f32FromBits(bits: number): number {
  word[0] = bits;
  return float[0]!;
}

/** Rounds an f32 to the nearest integral value, ties to even. −0 stays −0. */
export function roundNearestEven(value: number): number {
  const magnitude = Math.abs(value);
  if (!(magnitude < 2 ** 23)) return value;
  // From 2 ** 52 on, an f64 has no bits for a fraction. Adding 2 ** 52 to `magnitude` therefore
  // rounds it to an integer, ties to even.
  const rounded = magnitude + 2 ** 52 - 2 ** 52;
  return value < 0 || Object.is(value, -0) ? -rounded : rounded;
}

/** Rounds an f32 to the nearest integral value, ties away from zero. −0 stays −0. */
export function roundNearestAway(value: number): number {
  return Math.sign(value) * Math.round(Math.abs(value));
}

/**
 * Rounds a number towards zero and limits it to `least` … `most`. NaN becomes 0.
 * [XLA, ConvertElementType]
 */
export function truncateTo(value: number, least: number, most: number): number {
  if (Number.isNaN(value)) return 0;
  return Math.trunc(Math.min(Math.max(value, least), most)) + 0;
}

const f = f32FromBits;

/**
 * {@link F32Ops} on plain numbers. A number stands for a lane: it is the signed integer with the
 * same 32 bits as the lane. This holds even if the bits of the lane are an f32.
 */
export const scalarOps: F32Ops<number> = {
  constF32: bitsFromF32,
  constI32: (value) => value | 0,
  add: (a, b) => bitsFromF32(f(a) + f(b)),
  sub: (a, b) => bitsFromF32(f(a) - f(b)),
  mul: (a, b) => bitsFromF32(f(a) * f(b)),
  div: (a, b) => bitsFromF32(f(a) / f(b)),
  sqrt: (a) => bitsFromF32(Math.sqrt(f(a))),
  neg: (a) => a ^ 0x8000_0000,
  abs: (a) => a & 0x7fff_ffff,
  min: (a, b) => bitsFromF32(Math.min(f(a), f(b))),
  max: (a, b) => bitsFromF32(Math.max(f(a), f(b))),
  nearest: (a) => bitsFromF32(roundNearestEven(f(a))),
  lt: (a, b) => -Number(f(a) < f(b)),
  le: (a, b) => -Number(f(a) <= f(b)),
  eq: (a, b) => -Number(f(a) === f(b)),
  select: (mask, a, b) => (a & mask) | (b & ~mask),
  and: (a, b) => a & b,
  or: (a, b) => a | b,
  xor: (a, b) => a ^ b,
  shl: (a, count) => a << count,
  shrU: (a, count) => (a >>> count) | 0,
  shrS: (a, count) => a >> count,
  addI: (a, b) => (a + b) | 0,
  subI: (a, b) => (a - b) | 0,
  f32FromI32: (a) => bitsFromF32(a),
  i32FromF32Trunc: (a) => truncateTo(f(a), -(2 ** 31), 2 ** 31 - 1),
};

/**
 * Makes a function on numbers from `lanes`, a function on lanes that hold the bits of an f32. The
 * new function rounds its argument to f32 and then calls `lanes`.
 */
export function onNumber(lanes: (ops: F32Ops<number>, x: number) => number): (x: number) => number {
  return (x) => f32FromBits(lanes(scalarOps, bitsFromF32(x)));
}

/** Like {@link onNumber}, but for a function `lanes` of two arguments. */
export function onNumbers(
  lanes: (ops: F32Ops<number>, x: number, y: number) => number,
): (x: number, y: number) => number {
  return (x, y) => f32FromBits(lanes(scalarOps, bitsFromF32(x), bitsFromF32(y)));
}
