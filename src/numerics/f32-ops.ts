/**
 * The operations a WASM SIMD lane has, on 32 bits each, from which transcendental.ts builds its
 * functions. One definition, several instances: {@link scalarOps} computes numbers; a code
 * generator emits instructions. f32 operations round to nearest even and keep subnormals; NaN
 * goes in and comes out as some NaN. There is no fused multiply-add here, on purpose.
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
  /** NaN if either is NaN; −0 is below +0. */
  min(a: V, b: V): V;
  max(a: V, b: V): V;
  /** To an integral value, ties to even. */
  nearest(a: V): V;
  /** Compare as f32: all bits set, or none. False if either is NaN. */
  lt(a: V, b: V): V;
  le(a: V, b: V): V;
  eq(a: V, b: V): V;
  /** Bits of `a` where the mask has ones, bits of `b` elsewhere. */
  select(mask: V, a: V, b: V): V;
  and(a: V, b: V): V;
  or(a: V, b: V): V;
  xor(a: V, b: V): V;
  /** Shifts of the bits by a constant, 0 … 31; `shrU` fills with zeros, `shrS` with the sign. */
  shl(a: V, count: number): V;
  shrU(a: V, count: number): V;
  shrS(a: V, count: number): V;
  /** Sums of 32-bit integers, wrapping. */
  addI(a: V, b: V): V;
  subI(a: V, b: V): V;
  /** The f32 nearest to a signed integer. */
  f32FromI32(a: V): V;
  /** Towards zero; saturates; NaN becomes 0. */
  i32FromF32Trunc(a: V): V;
}

const word: Int32Array = new Int32Array(1);
const float: Float32Array = new Float32Array(word.buffer);

/** The bits of the f32 nearest to a number, as a signed integer. */
export function bitsFromF32(value: number): number {
  float[0] = value;
  return word[0]!;
}

/** The f32 that 32 bits stand for. */
export function f32FromBits(bits: number): number {
  word[0] = bits;
  return float[0]!;
}

/** Nearest integral value, ties to even, of an f32. */
export function roundNearestEven(value: number): number {
  const magnitude = Math.abs(value);
  if (!(magnitude < 2 ** 23)) return value;
  // Adding 2^52 leaves no bits below the point: f64 addition does the rounding, ties to even.
  const rounded = magnitude + 2 ** 52 - 2 ** 52;
  return value < 0 || Object.is(value, -0) ? -rounded : rounded;
}

/** Towards zero, saturating at `least` and `most`; NaN becomes 0. [XLA, ConvertElementType] */
export function truncateTo(value: number, least: number, most: number): number {
  if (Number.isNaN(value)) return 0;
  return Math.trunc(Math.min(Math.max(value, least), most)) + 0;
}

const f = f32FromBits;

/** One lane, its 32 bits held in a signed integer. */
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

/** A function of lanes as a function of numbers; its argument is rounded to f32. */
export function onNumber(lanes: (ops: F32Ops<number>, x: number) => number): (x: number) => number {
  return (x) => f32FromBits(lanes(scalarOps, bitsFromF32(x)));
}

/** A function of two lanes as a function of numbers. */
export function onNumbers(
  lanes: (ops: F32Ops<number>, x: number, y: number) => number,
): (x: number, y: number) => number {
  return (x, y) => f32FromBits(lanes(scalarOps, bitsFromF32(x), bitsFromF32(y)));
}
