import type { Scalar } from '../../numerics/element-type.ts';
import { bytesOf, type Literal, literalFrom, scalarAt, valueAt } from '../../numerics/literal.ts';
import type { ArrayShape } from '../../numerics/shape.ts';
import type { While } from '../instruction.ts';
import { refuse } from '../ops/check.ts';
import type { Run } from '../ops/definition.ts';
import type { ScalarBody } from './reduce.ts';
import { flattened, literalOf, type Value } from './value.ts';

/**
 * Largest number of trips of a loop. A loop that makes more trips is refused with `bad-program`.
 * The smallest body takes some minutes for so many trips, so a longer loop is most likely an
 * endless one.
 */
export const tripsMax: number = 2 ** 24;

/**
 * Returns the index of the branch that a conditional runs. A pred selects branch 0 if it is true,
 * otherwise branch 1.
 */
export function branchOf(selector: Literal, count: number): number {
  const value = valueAt(selector, 0);
  if (selector.shape.type === 'pred') return value === 0 ? 1 : 0;
  return value >= 0 && value < count ? value : count - 1;
}

/**
 * Evaluates a loop. Throws `bad-program` if the loop never ends, or if it makes more than `most`
 * trips.
 *
 * A trip depends only on the value before it. So a loop that gets a value for the second time never
 * ends. To find out, the function compares the value after each trip with the value that it noted
 * last. It notes a value after 1, 2, 4, 8, … trips, which finds a repetition of any length
 * [R. P. Brent, 1980].
 */
export function whileOf(it: While, init: Value, run: Run, most: number = tripsMax): Value {
  let value = init;
  let noted = init;
  let notedTrip = 0;
  for (let trip = 1; isTrue(run.call(it.condition, [value])); trip++) {
    if (trip > most) refuse(it, `a loop of at most ${most} trips`);
    value = run.call(it.body, [value]);
    if (hasSameBits(value, noted)) {
      refuse(it, `a loop that ends, not one that is after trip ${trip} as after trip ${notedTrip}`);
    }
    if (trip >= 2 * notedTrip) {
      noted = value;
      notedTrip = trip;
    }
  }
  return value;
}

/** Evaluates a map. */
export function mappedBy(
  shape: ArrayShape,
  operands: readonly Literal[],
  body: ScalarBody,
): Literal {
  return literalFrom(shape, (i): Scalar => body(...operands.map((it) => scalarAt(it, i)))[0]!);
}

/** Returns the truth value of a pred. */
export function isTrue(value: Value): boolean {
  return literalOf(value).data[0] !== 0;
}

function hasSameBits(a: Value, b: Value): boolean {
  const others = flattened(b);
  return flattened(a).every((it, i) => {
    const other = others[i]!;
    return it === other || Buffer.compare(bytesOf(it), bytesOf(other)) === 0;
  });
}
