import {
  add,
  compare,
  computation,
  concatenate,
  getTupleElement,
  parameter,
  reshape,
  scalar,
  slice,
  tuple,
} from '../hlo/build.ts';
import { whileLoop } from '../hlo/build-control.ts';
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
 * first one runs the loop again and saves its value before each trip. The second one goes through
 * the saved values, the last one first, and differentiates a trip at a time.
 *
 * The saved values of a leaf are an array with one more dimension, a stack. A trip shifts each
 * stack by one place, so the time for n trips grows with n².
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
  const stacks = leafValues(savingLoop(it, count, shapes)).slice(shapes.length);
  const given = shapes.flatMap((shape, n) => (isFloat[n] ? [cotangents[n] ?? zerosOf(shape)] : []));
  const backward = tools.backward(it.body, { given: isFloat, wanted: isFloat });
  const results = leafValues(backwardLoop(it.shape, count, { stacks, given, backward }));
  const left = results.slice(1 + stacks.length);
  return isFloat.map((hasOne) => (hasOne ? left.shift() : undefined));
}

/** Returns the loop with its value and a stack for each leaf. */
function savingLoop(it: While, count: number, shapes: readonly ArrayShape[]): While {
  const stacks = shapes.map(({ type, dims }) => zerosOf(arrayShape(type, [count, ...dims])));
  const init = tuple([operand(it, 0), tuple(stacks)]);
  const [seen, whole] = [parameter(0, init.shape), parameter(0, init.shape)];
  const value = getTupleElement(whole, 0);
  const leaves = leafValues(value);
  const saved = leafValues(getTupleElement(whole, 1));
  const pushed = saved.map((stack, n) => push(stack, at(leaves, n)));
  return whileLoop(
    init,
    named(it.condition, seen, inlined(it.condition, [getTupleElement(seen, 0)])),
    named(it.body, whole, tuple([inlined(it.body, [value]), tuple(pushed)])),
  );
}

interface Backward {
  readonly stacks: readonly HloInstruction[];
  readonly given: readonly HloInstruction[];
  readonly backward: HloComputation;
}

/** Returns the loop over a counter, the stacks and the cotangents. */
function backwardLoop(
  shape: Shape,
  count: number,
  { stacks, given, backward }: Backward,
): HloInstruction {
  const init = [scalar('s32', 0), ...stacks, ...given];
  const shapes = tupleShape(init.map((x) => x.shape));
  const [seen, whole] = [parameter(0, shapes), parameter(0, shapes)];
  const isMore = compare('LT', getTupleElement(seen, 0), scalar('s32', count));
  const [trip, ...rest] = leafValues(whole);
  const saved = rest.slice(0, stacks.length);
  const value = valueOfLeaves(shape, saved.map(top));
  const results = inlined(backward, [value, ...rest.slice(stacks.length)]).operands;
  const next = tuple([add(trip!, scalar('s32', 1)), ...saved.map(turned), ...results]);
  return whileLoop(
    tuple(init),
    computation(`${backward.name}_trips`, [seen], isMore),
    computation(backward.name, [whole], next),
  );
}

function named({ name }: HloComputation, whole: Parameter, root: HloInstruction): HloComputation {
  return computation(`${name}_saving`, [whole], root);
}

/** Returns a stack with x on top and without its lowest value. */
function push(stack: HloInstruction, x: HloInstruction): HloInstruction {
  const { dims } = arrayOf(x);
  return concatenate([rows(stack, 1, rowsOf(stack)), reshape(x, [1, ...dims])], 0);
}

/** Returns the value on top of a stack. */
function top(stack: HloInstruction): HloInstruction {
  const [count, ...dims] = arrayOf(stack).dims;
  return reshape(rows(stack, count! - 1, count!), dims);
}

/** Returns a stack whose top has become its lowest value. */
function turned(stack: HloInstruction): HloInstruction {
  const count = rowsOf(stack);
  return concatenate([rows(stack, count - 1, count), rows(stack, 0, count - 1)], 0);
}

function rowsOf(stack: HloInstruction): number {
  return at(arrayOf(stack).dims, 0);
}

function rows(stack: HloInstruction, start: number, limit: number): HloInstruction {
  const { dims } = arrayOf(stack);
  return slice(stack, [start, ...dims.slice(1).map(() => 0)], [limit, ...dims.slice(1)]);
}
