import { exactBf16 } from '../../numerics/bf16.ts';
import {
  type ElementType,
  elementTypes,
  type Scalar,
  type StoredBigints,
  type StoredNumbers,
} from '../../numerics/element-type.ts';
import { storedOf } from '../../numerics/literal.ts';

/**
 * Returns the function that rounds a float x to another type at random. x lies between two
 * neighbouring values of the type: a, which is closer to 0, and b. With a random integer r of w bits,
 * the result is b if r < ⌊d · 2^w⌋, and otherwise a. Here d is |x − a| / |b − a|. [XLA,
 * stochastic_convert_decomposer.cc]
 *
 * A NaN becomes 0 in an integer type. x beyond the range of an integer type becomes its least or
 * greatest value. x beyond the largest finite float becomes what `convert` makes of it. A bf16 below
 * the smallest normal number becomes 0.
 */
export function stochasticConversion(
  from: ElementType,
  to: ElementType,
): (x: Scalar, random: Scalar) => Scalar {
  const scale = 2 ** elementTypes[from].bits;
  const isUp = (part: number, random: Scalar): boolean => random < Math.floor(part * scale);
  const stored = storedOf(to);
  const { range } = stored;
  if (stored.isWide || range !== undefined) {
    const round = toInteger(stored.isWide ? stored.range : range!, isUp);
    return stored.isWide ? round : (x, random) => Number(round(x, random));
  }
  return toFloat(stored, to === 'bf16' ? exactBf16 : stored.encode, isUp);
}

/**
 * True if a number is rounded away from zero. The number lies between two numbers that the type can
 * express: `part` is its place between them, from 0 (the one closer to zero) to 1. `random` are the
 * random bits that decide.
 */
type IsUp = (part: number, random: Scalar) => boolean;

function toInteger(
  { least, most }: StoredBigints['range'] | NonNullable<StoredNumbers['range']>,
  isUp: IsUp,
): (x: Scalar, random: Scalar) => Scalar {
  return (given, random) => {
    const x = Number(given);
    if (Number.isNaN(x)) return BigInt(0);
    if (x >= Number(most)) return BigInt(most);
    if (x <= Number(least)) return BigInt(least);
    const whole = Math.floor(Math.abs(x));
    const rounded = BigInt(whole) + BigInt(isUp(Math.abs(x) - whole, random));
    return x < 0 ? -rounded : rounded;
  };
}

/** `nearestTo` returns the bits of the nearest number, also if the hardware would take it as 0. */
function toFloat(
  to: StoredNumbers,
  nearestTo: (value: number) => number,
  isUp: IsUp,
): (x: Scalar, random: Scalar) => number {
  return (given, random) => {
    const x = Number(given);
    const magnitude = Math.abs(x);
    const code = nearestTo(magnitude);
    const nearest = to.decode(code);
    if (Number.isNaN(nearest) || nearest === magnitude) return to.decode(to.encode(x));
    const below = nearest < magnitude ? code : code - 1;
    const [low, high] = [to.decode(below), to.decode(below + 1)];
    const isBetween = low < magnitude && magnitude < high && high < Infinity;
    if (!isBetween) return to.decode(to.encode(x));
    const rounded = isUp((magnitude - low) / (high - low), random) ? high : low;
    return x < 0 ? -rounded : rounded;
  };
}
