import {
  add,
  adder,
  and,
  broadcast,
  compare,
  computation,
  convert,
  divide,
  full,
  getTupleElement,
  greaterOrEqual,
  not,
  or,
  pad,
  parameter,
  reduceWindow,
  scalar,
  select,
  selectAndScatter,
  tuple,
  windowDimension,
} from '../hlo/build.ts';
import type {
  HloComputation,
  HloInstruction,
  Opcode,
  Reduce,
  ReduceWindow,
  SelectAndScatter,
  WindowDimension,
} from '../hlo/instruction.ts';
import { inlined } from '../hlo/traverse.ts';
import { at } from '../numerics/assert.ts';
import { arrayShape, elementCount } from '../numerics/shape.ts';
import { filled, like } from './fill.ts';
import { arrayOf, type Contribution, noDerivative, operand, toOperands } from './rule.ts';
import { dilated, indices, sumOver } from './shape.ts';

/**
 * Returns the cotangents of a reduction's operands: the array and the initial value. The reduction
 * must be a sum, maximum or minimum. Throws `bad-program` for any other reduction.
 */
export function reduceRule(it: Reduce, ct: HloInstruction): Contribution[] {
  switch (combinerOf(it.body)) {
    case 'add':
      return toOperands(
        it,
        () => spread(it, ct),
        () => total(ct),
      );
    case 'maximum':
    case 'minimum':
      return reduceBestRule(it, ct);
    default:
      throw noDerivative(it, `${it.body.name} is neither a sum, a maximum nor a minimum`);
  }
}

/**
 * Divides the cotangent of a maximum or minimum equally among all elements that equal the result
 * (the winners). The initial value is a winner too if it equals the result.
 */
function reduceBestRule(it: Reduce, ct: HloInstruction): Contribution[] {
  const [x, init] = [operand(it, 0), operand(it, 1)];
  const { type } = arrayOf(it);
  const won = compare('EQ', x, spread(it, it));
  const initWon = compare('EQ', like(init, it), it);
  const winners = add(sumOver(convert(won, type), it.dimensions), convert(initWon, type));
  const share = divide(ct, winners);
  return toOperands(
    it,
    () => select(won, spread(it, share), filled(x, 0)),
    () => total(select(initWon, share, filled(it, 0))),
  );
}

/**
 * Broadcasts `value` along the dimensions that the reduction `it` removes. `value` has the
 * dimensions of the reduction's result; the returned array has the dimensions of the reduction's
 * operand.
 */
function spread(it: Reduce, value: HloInstruction): HloInstruction {
  const { dims } = arrayOf(operand(it, 0));
  const kept = indices(dims).filter((d) => !it.dimensions.includes(d));
  return kept.length === dims.length ? value : broadcast(value, dims, kept);
}

function total(x: HloInstruction): HloInstruction {
  return sumOver(x, indices(arrayOf(x).dims));
}

/**
 * Returns the cotangent of the array operand of a reduce-window that computes sums or maxima.
 * Throws `bad-program` for any other reduction. The initial value must be a constant that changes
 * no result, such as 0 for a sum. If `gradient` asks for the cotangent of the initial value, the
 * rule throws `bad-program`.
 */
export function reduceWindowRule(it: ReduceWindow, ct: HloInstruction): Contribution[] {
  if (it.operands.length > 2) throw noDerivative(it, 'it folds several arrays');
  return toOperands(
    it,
    () => reduceWindowByInput(it, ct),
    () => {
      throw noDerivative(it, 'the initial value of a window is taken as a constant');
    },
  );
}

function reduceWindowByInput(it: ReduceWindow, ct: HloInstruction): HloInstruction {
  if (elementCount(arrayOf(it)) === 0) return filled(operand(it, 0), 0);
  switch (combinerOf(it.body)) {
    case 'add':
      return windowSumByInput(it, ct);
    case 'maximum':
      return windowMaxByInput(it, ct);
    default:
      throw noDerivative(it, `${it.body.name} is neither a sum nor a maximum`);
  }
}

/**
 * Returns the cotangent of the array operand of a reduce-window that computes sums. The cotangent
 * of an element is the sum of the cotangents of all windows that contain the element. [JAX,
 * reduce_window_sum]
 */
function windowSumByInput(it: ReduceWindow, ct: HloInstruction): HloInstruction {
  const { type, dims } = arrayOf(operand(it, 0));
  const low = it.window.map((w) => dilated(w.size, w.windowDilation) - 1 - w.padLow);
  const high = it.window.map((w, d) => {
    const base = dilated(at(dims, d), w.baseDilation) + dilated(w.size, w.windowDilation) - 1;
    return base - dilated(at(arrayOf(it).dims, d), w.stride) - at(low, d);
  });
  const interior = it.window.map((w) => w.stride - 1);
  const zero = scalar(type, 0);
  const window = it.window.map(transposedWindow);
  return reduceWindow(pad(ct, zero, { low, high, interior }), zero, window, adder(type));
}

function transposedWindow(w: WindowDimension): WindowDimension {
  return windowDimension({
    size: w.size,
    stride: w.baseDilation,
    windowDilation: w.windowDilation,
  });
}

/**
 * Passes the cotangent of each window to the first maximal element of that window. Throws
 * `bad-program` if the window or the array is dilated. [XLA, SelectAndScatter]
 */
function windowMaxByInput(it: ReduceWindow, ct: HloInstruction): HloInstruction {
  const { type } = arrayOf(it);
  if (it.window.some((w) => w.baseDilation !== 1 || w.windowDilation !== 1)) {
    throw noDerivative(it, 'a maximum over a dilated window');
  }
  const [select, scatter] = [greaterOrEqual(type), adder(type)];
  return selectAndScatter(operand(it, 0), ct, scalar(type, 0), it.window, select, scatter);
}

/**
 * Returns the cotangents of the source and of the initial value of a select-and-scatter that adds.
 * The operand gets none, because it only says where the elements of the source go.
 */
export function selectAndScatterRule(it: SelectAndScatter, ct: HloInstruction): Contribution[] {
  if (combinerOf(it.scatter) !== 'add') {
    throw noDerivative(it, `${it.scatter.name} is not a sum`);
  }
  return toOperands(
    it,
    undefined,
    () => selectedIn(it, ct),
    () => sumOver(ct, indices(arrayOf(ct).dims)),
  );
}

/**
 * Returns, for each window of a select-and-scatter, the element of `values` at the position that is
 * selected in the operand. A window of nothing but padding gets 0. Three arrays are folded together:
 * the operand, `values`, and a pred that is true for elements and false for padding.
 */
function selectedIn(it: SelectAndScatter, values: HloInstruction): HloInstruction {
  const x = operand(it, 0);
  const { type, dims } = arrayOf(x);
  const types = [type, type, 'pred'] as const;
  const [a, aValue, aCounts, b, bValue, bCounts] = [...types, ...types].map((of, i) =>
    parameter(i, arrayShape(of, [])),
  );
  const isBetter = inlined(it.select, [a!, b!]);
  const keeps = and(aCounts!, or(not(bCounts!), isBetter));
  const chosen = [select(keeps, a!, b!), select(keeps, aValue!, bValue!), or(aCounts!, bCounts!)];
  const parameters = [a!, aValue!, aCounts!, b!, bValue!, bCounts!];
  const body = computation(`selected_by_${it.select.name}`, parameters, tuple(chosen));
  const inits = types.map((of) => scalar(of, 0));
  const folded = reduceWindow([x, values, full('pred', dims, 1)], inits, it.window, body);
  const found = getTupleElement(folded, 1);
  return select(getTupleElement(folded, 2), found, filled(found, 0));
}

/**
 * Returns the opcode of `root` if the given computation is one binary operation on its two
 * parameters, in either order. Returns undefined for any other computation.
 */
export function combinerOf({ parameters, root }: HloComputation): Opcode | undefined {
  const [a, b] = parameters;
  const [left, right] = root.operands;
  if (parameters.length !== 2 || root.operands.length !== 2) return undefined;
  const plain = (left === a && right === b) || (left === b && right === a);
  return plain ? root.opcode : undefined;
}
