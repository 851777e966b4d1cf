import type { HloInstruction, While } from '../hlo/instruction.ts';
import { inlined } from '../hlo/traverse.ts';
import { countedTripsMax, tripCount } from '../hlo/trip-count.ts';
import { at } from '../numerics/assert.ts';
import { leafShapes } from '../numerics/shape.ts';
import { isGiven } from './control.ts';
import { isFloatShape } from './leaves.ts';
import { type Contribution, type Cotangents, noDerivative, operand, type Tools } from './rule.ts';
import { savedLoop } from './saved-loop.ts';
import { toLeaves } from './tuple.ts';

/**
 * Largest number of trips of a loop that {@link whileRule} unrolls. Its limit bounds the size of
 * the program.
 */
export const unrolledTripsMax: number = 64;

/**
 * Returns the cotangents of the operand of a loop with a known number of trips. A short loop is
 * unrolled, a longer one becomes two loops.
 */
export function whileRule(it: While, cotangents: Cotangents, tools: Tools): Contribution[] {
  const count = knownTrips(it);
  const found =
    count > unrolledTripsMax
      ? savedLoop(it, { count, cotangents }, tools)
      : unrolled(it, { count, cotangents }, tools);
  return toLeaves(operand(it, 0), 0, found);
}

/**
 * Returns the cotangents of the operand of a loop, computed without loops: the values before each
 * trip are computed again, then the trips are differentiated, the last one first.
 */
export function unrolled(
  it: While,
  { count, cotangents }: { readonly count: number; readonly cotangents: Cotangents },
  tools: Tools,
): Cotangents {
  const values = [operand(it, 0)];
  for (let trip = 1; trip < count; trip++) values.push(inlined(it.body, [values.at(-1)!]));
  const wanted = leafShapes(it.shape).map(isFloatShape);
  let found = cotangents;
  for (let trip = count - 1; trip >= 0; trip--) {
    const backward = tools.backward(it.body, { given: found.map(isGiven), wanted });
    const inputs: HloInstruction[] = [at(values, trip), ...found.filter(isGiven)];
    const results = [...inlined(backward, inputs).operands];
    found = wanted.map((isWanted) => (isWanted ? results.shift() : undefined));
  }
  return found;
}

function knownTrips(it: While): number {
  const count = tripCount(it);
  if (count !== undefined) return count;
  const known = 'a counter that starts with a constant and is compared with a constant';
  throw noDerivative(it, `expected a loop of at most ${countedTripsMax} trips, by ${known}`);
}
