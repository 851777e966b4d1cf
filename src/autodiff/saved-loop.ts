import {
  add,
  compare,
  computation,
  getTupleElement,
  parameter,
  reshape,
  scalar,
  subtract,
  tuple,
} from '../hlo/build.ts';
import { whileLoop } from '../hlo/build-control.ts';
import { dynamicSlice, dynamicUpdateSlice } from '../hlo/build-indexed.ts';
import type { HloComputation, HloInstruction, Parameter, While } from '../hlo/instruction.ts';
import { inlined } from '../hlo/traverse.ts';
import { at } from '../numerics/assert.ts';
import {
  type ArrayShape,
  arrayShape,
  isArray,
  leafShapes,
  type Shape,
  tupleShape,
} from '../numerics/shape.ts';
import { isFloatShape, leafValues, valueOfLeaves, zerosOf } from './leaves.ts';
import { arrayOf, type Cotangents, noDerivative, operand, type Tools } from './rule.ts';

/**
 * Returns the cotangents of the operand of a loop of `count` trips, computed by two loops. The
 * first loop runs the given loop again and saves its value before each trip. The second loop takes
 * the saved values in reverse order, and differentiates one trip at a time.
 *
 * The saved values of a leaf (an array in the value of the loop) are the rows of one array: row i is
 * the leaf before trip i. This array has `count` rows and one more dimension than the leaf.
 */
export function savedLoop(
  it: While,
  { count, cotangents }: { readonly count: number; readonly cotangents: Cotangents },
  tools: Tools,
): Cotangents {
  const shapes = leafShapes(it.shape).map((shape) => {
    if (!isArray(shape)) throw noDerivative(it, 'a token is carried through the loop');
    return shape;
  });
  const isFloat = shapes.map(isFloatShape);
  const saved = leafValues(savingLoop(it, count, shapes)).slice(shapes.length, -1);
  const given = shapes.flatMap((shape, n) => (isFloat[n] ? [cotangents[n] ?? zerosOf(shape)] : []));
  const backward = tools.backward(it.body, { given: isFloat, wanted: isFloat });
  const results = leafValues(backwardLoop(it.shape, count, { saved, given, backward }));
  const left = results.slice(1 + saved.length);
  return isFloat.map((hasOne) => (hasOne ? left.shift() : undefined));
}

/**
 * Returns a loop whose value is the value of the given loop, the saved values, and a counter. Its own
 * counter ends the loop, so that the number of its trips is known for second derivatives.
 */
function savingLoop(it: While, count: number, shapes: readonly ArrayShape[]): While {
  const rows = shapes.map(({ type, dims }) => zerosOf(arrayShape(type, [count, ...dims])));
  const init = tuple([operand(it, 0), tuple(rows), scalar('s32', 0)]);
  const [seen, whole] = [parameter(0, init.shape), parameter(0, init.shape)];
  const [value, trip] = [getTupleElement(whole, 0), getTupleElement(whole, 2)];
  const leaves = leafValues(value);
  const saved = leafValues(getTupleElement(whole, 1)).map((all, n) =>
    withRow(all, trip, at(leaves, n)),
  );
  const next = [inlined(it.body, [value]), tuple(saved), add(trip, scalar('s32', 1))];
  const isMore = compare('LT', getTupleElement(seen, 2), scalar('s32', count));
  return whileLoop(init, named(it.condition, seen, isMore), named(it.body, whole, tuple(next)));
}

interface Backward {
  /** The saved values of each leaf. */
  readonly saved: readonly HloInstruction[];
  /** The cotangents of the float leaves of the result of the given loop. */
  readonly given: readonly HloInstruction[];
  /** Computes, from a value before a trip and cotangents after it, the cotangents before it. */
  readonly backward: HloComputation;
}

/**
 * Returns the loop that differentiates trip by trip. Its value is a counter of its trips, the saved
 * values of each leaf, and the cotangents of the float leaves.
 */
function backwardLoop(
  shape: Shape,
  count: number,
  { saved, given, backward }: Backward,
): HloInstruction {
  const init = [scalar('s32', 0), ...saved, ...given];
  const shapes = tupleShape(init.map((x) => x.shape));
  const [seen, whole] = [parameter(0, shapes), parameter(0, shapes)];
  const isMore = compare('LT', getTupleElement(seen, 0), scalar('s32', count));
  const [trip, ...rest] = leafValues(whole);
  const all = rest.slice(0, saved.length);
  const last = subtract(scalar('s32', count - 1), trip!);
  const value = valueOfLeaves(
    shape,
    all.map((it) => row(it, last)),
  );
  const results = inlined(backward, [value, ...rest.slice(saved.length)]).operands;
  const next = tuple([add(trip!, scalar('s32', 1)), ...all, ...results]);
  return whileLoop(
    tuple(init),
    computation(`${backward.name}_trips`, [seen], isMore),
    computation(backward.name, [whole], next),
  );
}

function named({ name }: HloComputation, whole: Parameter, root: HloInstruction): HloComputation {
  return computation(`${name}_saving`, [whole], root);
}

/** Returns an array with `x` as the row with the index `index`. */
function withRow(all: HloInstruction, index: HloInstruction, x: HloInstruction): HloInstruction {
  const { dims } = arrayOf(x);
  return dynamicUpdateSlice(all, reshape(x, [1, ...dims]), startsAt(index, dims));
}

/** Returns the row of an array with the index `index`. */
function row(all: HloInstruction, index: HloInstruction): HloInstruction {
  const dims = arrayOf(all).dims.slice(1);
  return reshape(dynamicSlice(all, startsAt(index, dims), [1, ...dims]), dims);
}

function startsAt(index: HloInstruction, dims: readonly number[]): HloInstruction[] {
  return [index, ...dims.map(() => scalar('s32', 0))];
}
