import { assert } from '../../numerics/assert.ts';
import {
  computedTypes,
  type ElementType,
  elementTypes,
  type Scalar,
} from '../../numerics/element-type.ts';
import { bitsFromF32, f32FromBits } from '../../numerics/f32-ops.ts';
import { storedOf } from '../../numerics/literal.ts';
import type { FloatFormat } from '../../numerics/reduce-precision.ts';

/** Element types that `reduce-precision` accepts. */
export const reducibleTypes: readonly ElementType[] = computedTypes.filter(isReducible);

/** True if `reduce-precision` accepts elements of the type. */
export function isReducible(type: ElementType): boolean {
  return elementTypes[type].ieee !== undefined;
}

/**
 * Returns the function that rounds an element of `type` to a narrower format [XLA,
 * ReducePrecision]:
 *
 * - The mantissa is rounded to the nearest value, ties to even. A carry goes into the exponent.
 * - If the format has fewer exponents than `type`, values beyond them become ±∞. Values below its
 *   normal numbers become ±0.
 * - If the format has all exponents of `type`, subnormal numbers stay.
 * - NaN stays NaN, even if the format has no mantissa.
 */
export function reducedPrecision(type: ElementType, to: FloatFormat): (x: Scalar) => number {
  const from = elementTypes[type].ieee;
  const stored = storedOf(type);
  assert(from !== undefined && !stored.isWide, `${type} is a float with the bits of IEEE 754`);
  const bitsOf = type === 'f32' ? bitsFromF32 : stored.encode;
  const numberOf = type === 'f32' ? f32FromBits : stored.decode;
  return (x) => (Number.isNaN(x) ? Number.NaN : numberOf(reducedBits(bitsOf(Number(x)), from, to)));
}

function reducedBits(bits: number, from: FloatFormat, to: FloatFormat): number {
  const sign = bits & (1 << (from.exponentBits + from.mantissaBits));
  const rounded = roundedMantissa(bits ^ sign, from.mantissaBits - to.mantissaBits);
  if (to.exponentBits >= from.exponentBits) return sign | rounded;
  const exponent = (rounded >>> from.mantissaBits) - biasOf(from);
  if (exponent > biasOf(to)) return sign | ((2 ** from.exponentBits - 1) << from.mantissaBits);
  return exponent <= -biasOf(to) ? sign : sign | rounded;
}

/** Rounds a magnitude to a multiple of 2^dropped, ties to the even multiple. */
function roundedMantissa(magnitude: number, dropped: number): number {
  if (dropped <= 0) return magnitude;
  const unit = 2 ** dropped;
  const below = Math.floor(magnitude / unit);
  const rest = magnitude - below * unit;
  const up = rest > unit / 2 || (rest === unit / 2 && below % 2 === 1);
  return (below + Number(up)) * unit;
}

function biasOf({ exponentBits }: FloatFormat): number {
  return 2 ** (exponentBits - 1) - 1;
}
