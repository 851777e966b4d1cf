import { at } from '../../numerics/assert.ts';
import {
  type ArrayShape,
  arrayShape,
  type Shape,
  sameDims,
  sameShape,
  shapeText,
} from '../../numerics/shape.ts';
import { reduceOf, reduceWindowOf, selectAndScatterOf } from '../evaluate/reduce.ts';
import { literalOf } from '../evaluate/value.ts';
import type { Draft, HloComputation, InstructionBase } from '../instruction.ts';
import { callee, field, integers } from '../text/attribute.ts';
import { windowAttribute } from '../text/window.ts';
import type { WindowDimension } from '../window.ts';
import {
  arrayOperand,
  expect,
  expectDistinct,
  expectOperands,
  expectSignature,
  expectWindow,
  oneOrTuple,
  positionsOf,
} from './check.ts';
import type { Definition, DefinitionsOf } from './definition.ts';

/** Operations that fold elements with a computation. */
export type Reduction = Reduce | ReduceWindow | SelectAndScatter;

/**
 * Folds the elements of n inputs along `dimensions`. Operands: the n inputs, then n scalar initial
 * values. The elements are taken in row-major order. At each step, `body` takes n accumulated
 * values and one element of each input, and returns n new accumulated values. If n is 1, the result
 * is an array; otherwise it is a tuple of n arrays.
 */
export interface Reduce extends InstructionBase<'reduce', Shape> {
  readonly dimensions: readonly number[];
  readonly body: HloComputation;
}

/**
 * Folds the elements of each window of n inputs with `body`, in row-major order, starting from the
 * initial values. Operands: the n inputs, then n scalar initial values. Padding elements have the
 * initial value of their input too. `body` is as that of a {@link Reduce}. If n is 1, the result is
 * an array; otherwise it is a tuple of n arrays.
 */
export interface ReduceWindow extends InstructionBase<'reduce-window', Shape> {
  readonly window: readonly WindowDimension[];
  readonly body: HloComputation;
}

/**
 * Scatters values to selected positions. For example, it scatters the gradient of a max pooling to
 * the positions of the largest elements. Operands: an array, `source`, a scalar initial value.
 * `source` has one element for each window of the array.
 *
 * The result has the shape of the array. At first, it has the initial value at each position. Then
 * each window is handled as follows:
 *
 * 1. One position of the window is selected. At first, this is the first position in row-major
 *    order. The search then goes through the further positions. If `select` returns false for the
 *    element at the selected position and the element at the further position, the further position
 *    is selected instead.
 * 2. `scatter` combines the value of the result at the selected position with the window's element
 *    of `source`. This becomes the new value at that position.
 */
export interface SelectAndScatter extends InstructionBase<'select-and-scatter'> {
  readonly window: readonly WindowDimension[];
  readonly select: HloComputation;
  readonly scatter: HloComputation;
}

const reduce: Definition<Reduce> = {
  family: 'reduction',
  attributes: [field('dimensions', 'dimensions', integers), field('to_apply', 'body', callee)],
  bodies: ({ body }) => [body],
  infer: reduceShape,
  evaluate: (it, operands, run) => {
    const results = reduceOf(it, operands.map(literalOf), run.scalar(it.body));
    return results.length === 1 ? at(results, 0) : results;
  },
};

const reduceWindow: Definition<ReduceWindow> = {
  family: 'reduction',
  attributes: [windowAttribute(), field('to_apply', 'body', callee)],
  bodies: ({ body }) => [body],
  infer: reduceWindowShape,
  evaluate: (it, operands, run) => {
    const results = reduceWindowOf(it, operands.map(literalOf), run.scalar(it.body));
    return results.length === 1 ? at(results, 0) : results;
  },
};

const selectAndScatter: Definition<SelectAndScatter> = {
  family: 'reduction',
  attributes: [
    windowAttribute(),
    field('select', 'select', callee),
    field('scatter', 'scatter', callee),
  ],
  bodies: ({ select, scatter }) => [select, scatter],
  infer: selectAndScatterShape,
  evaluate: (it, [operand, source, init], run) => {
    const arrays = [literalOf(operand!), literalOf(source!), literalOf(init!)] as const;
    return selectAndScatterOf(it, arrays, run.scalar(it.select), run.scalar(it.scatter));
  },
};

/** Definitions of {@link Reduction}. */
export const reductionDefinitions: DefinitionsOf<Reduction> = {
  reduce,
  'reduce-window': reduceWindow,
  'select-and-scatter': selectAndScatter,
};

function reduceShape(it: Draft<Reduce>): Shape {
  const inputs = foldedInputs(it);
  const first = at(inputs, 0);
  expectDistinct(it, it.dimensions, first.dims.length, 'dimensions');
  const dims = first.dims.filter((_, d) => !it.dimensions.includes(d));
  return oneOrTuple(inputs.map(({ type }) => arrayShape(type, dims)));
}

function reduceWindowShape(it: Draft<ReduceWindow>): Shape {
  return oneOrTuple(foldedInputs(it).map((input) => windowedShape(it, input, it.window)));
}

/** Checks the inputs, the initial values and the body of a fold. Returns the shapes of the inputs. */
function foldedInputs(it: Draft<Reduce | ReduceWindow>): readonly ArrayShape[] {
  const n = it.operands.length / 2;
  expect(it, Number.isInteger(n) && n > 0, 'as many initial values as inputs, at least one');
  const inputs = it.operands.slice(0, n).map((_, i) => arrayOperand(it, i));
  const first = at(inputs, 0);
  const scalars = inputs.map(({ type }) => arrayShape(type, []));
  for (let i = 0; i < n; i++) {
    expect(it, sameDims(at(inputs, i).dims, first.dims), 'inputs of one size');
    const fits = sameShape(arrayOperand(it, n + i), at(scalars, i));
    expect(it, fits, "scalar initial values of the inputs' types");
  }
  expectSignature(it, it.body, [...scalars, ...scalars], oneOrTuple(scalars));
  return inputs;
}

function windowedShape(
  it: Draft,
  input: ArrayShape,
  window: readonly WindowDimension[],
): ArrayShape {
  expect(it, window.length === input.dims.length, `a window of ${input.dims.length} dimensions`);
  expectWindow(it, window);
  expect(it, !window.some(({ reversal }) => reversal), 'a window that is not reversed');
  const dims = input.dims.map((size, d) => positionsOf(it, size, at(window, d)));
  return arrayShape(input.type, dims);
}

function selectAndScatterShape(it: Draft<SelectAndScatter>): Shape {
  expectOperands(it, 3);
  const operand = arrayOperand(it, 0);
  const scalar = arrayShape(operand.type, []);
  const windowed = windowedShape(it, operand, it.window);
  const solid = it.window.every((w) => w.baseDilation === 1 && w.windowDilation === 1);
  expect(it, solid, 'a window without dilation');
  expect(it, sameShape(arrayOperand(it, 1), windowed), `a source of shape ${shapeText(windowed)}`);
  expect(it, sameShape(arrayOperand(it, 2), scalar), 'a scalar initial value');
  expectSignature(it, it.select, [scalar, scalar], arrayShape('pred', []));
  expectSignature(it, it.scatter, [scalar, scalar], scalar);
  return operand;
}
