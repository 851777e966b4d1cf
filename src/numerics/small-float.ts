import { roundNearestEven } from './f32-ops.ts';

/**
 * Format of a binary floating-point number of at most 16 bits: a sign bit, then the exponent, then
 * the mantissa. [IEEE 754; ml_dtypes, "Specifications of implemented floating point formats"]
 */
export interface SmallFloat {
  readonly exponentBits: number;
  readonly mantissaBits: number;
  readonly bias: number;
  /**
   * Which codes are no numbers:
   *
   * - `ieee`: the largest exponent stands for infinities and NaNs;
   * - `fn` (finite): only the codes with all bits of exponent and mantissa set are NaN, and there
   *   are no infinities;
   * - `fnuz` (finite, unsigned zero): the code of −0 is the only NaN, and there are no infinities.
   */
  readonly special: 'ieee' | 'fn' | 'fnuz';
}

/**
 * Returns the code of the number in the given format that is nearest to `value`, ties to even. A
 * magnitude that rounds to more than the largest number becomes an infinity, or NaN if the format
 * has none. All NaNs become one NaN; it is positive except in `fnuz`.
 */
export function encodeSmallFloat(format: SmallFloat, value: number): number {
  if (Number.isNaN(value)) return nanCode(format);
  const negative = value < 0 || Object.is(value, -0);
  const code = encodeMagnitude(format, Math.abs(value));
  if (code === undefined) return nanCode(format);
  if (format.special === 'fnuz' && code === 0) return 0;
  return negative ? signBit(format) | code : code;
}

/** Returns the number whose code in the given format is `code`. */
export function decodeSmallFloat(format: SmallFloat, code: number): number {
  const { mantissaBits, special } = format;
  const sign = (code & signBit(format)) === 0 ? 1 : -1;
  const magnitude = code & (signBit(format) - 1);
  if (special === 'fnuz' && sign < 0 && magnitude === 0) return Number.NaN;
  if (magnitude > largestCode(format)) {
    return special === 'ieee' && magnitude === infinityCode(format) ? sign * Infinity : Number.NaN;
  }
  const exponent = magnitude >> mantissaBits;
  const mantissa = magnitude & ((1 << mantissaBits) - 1);
  const whole = exponent === 0 ? mantissa : mantissa + (1 << mantissaBits);
  return sign * whole * 2 ** (Math.max(exponent, 1) - 1 + leastPower(format));
}

/**
 * Returns the code of a number of 0 or more, without its sign. Returns undefined for a number that
 * is too large for a format without infinities.
 */
function encodeMagnitude(format: SmallFloat, magnitude: number): number | undefined {
  const tooLarge = format.special === 'ieee' ? infinityCode(format) : undefined;
  if (magnitude === Infinity) return tooLarge;
  const least = leastPower(format);
  // Power of two of the last mantissa bit, at least that of the subnormal numbers.
  const power = Math.max(exponentOf(magnitude) - format.mantissaBits, least);
  const whole = roundNearestEven(magnitude / 2 ** power);
  const code = whole + (power - least) * 2 ** format.mantissaBits;
  return code > largestCode(format) ? tooLarge : code;
}

/** Returns the exponent of the largest power of two that is not above `magnitude`. */
function exponentOf(magnitude: number): number {
  if (magnitude < Number.MIN_VALUE * 2 ** 52) return -1023;
  const near = Math.floor(Math.log2(magnitude));
  if (2 ** near > magnitude) return near - 1;
  return 2 ** (near + 1) <= magnitude ? near + 1 : near;
}

/** Exponent of the power of two that is the smallest positive number of a format. */
function leastPower({ bias, mantissaBits }: SmallFloat): number {
  return 1 - bias - mantissaBits;
}

function signBit({ exponentBits, mantissaBits }: SmallFloat): number {
  return 1 << (exponentBits + mantissaBits);
}

/** Code of the largest finite number, without its sign. */
function largestCode(format: SmallFloat): number {
  if (format.special === 'ieee') return infinityCode(format) - 1;
  return signBit(format) - (format.special === 'fn' ? 2 : 1);
}

function infinityCode({ exponentBits, mantissaBits }: SmallFloat): number {
  return ((1 << exponentBits) - 1) << mantissaBits;
}

function nanCode(format: SmallFloat): number {
  if (format.special === 'fnuz') return signBit(format);
  if (format.special === 'fn') return signBit(format) - 1;
  return infinityCode(format) | (1 << (format.mantissaBits - 1));
}
