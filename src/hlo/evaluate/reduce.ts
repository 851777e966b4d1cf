import { at } from '../../numerics/assert.ts';
import type { Scalar } from '../../numerics/element-type.ts';
import { type Literal, literalFrom, scalarAt, scalarsOf } from '../../numerics/literal.ts';
import {
  elementCount,
  isArray,
  leafShapes,
  otherDimensions,
  stridesOf,
} from '../../numerics/shape.ts';
import type { Reduce, ReduceWindow, SelectAndScatter, WindowDimension } from '../instruction.ts';
import { windowElement } from '../window.ts';
import { forEachIndex, offsetsAlong } from './value.ts';

/**
 * A computation on scalars, as a function. It takes one value for each parameter of the
 * computation and returns a list with one value for each result.
 */
export type ScalarBody = (...values: readonly Scalar[]) => readonly Scalar[];

/**
 * Evaluates a reduce of one or more inputs. Each element of a result is ((init ∘ x0) ∘ x1) ∘ …,
 * where init is the initial value, ∘ is `body`, and x0, x1, … are the reduced elements in row-major
 * order.
 */
export function reduceOf(
  it: Reduce,
  operands: readonly Literal[],
  body: ScalarBody,
): readonly Literal[] {
  const inputs = operands.slice(0, operands.length / 2);
  const inits = operands.slice(inputs.length).map((init) => scalarAt(init, 0));
  const numbers = inputs.map(scalarsOf);
  const { dims } = at(inputs, 0).shape;
  const kept = otherDimensions(dims.length, it.dimensions);
  const reduced = dims.map((_, d) => d).filter((d) => it.dimensions.includes(d));
  const starts = offsetsAlong(dims, kept);
  const along = offsetsAlong(dims, reduced);
  const results = starts.map((start) => {
    let sums: readonly Scalar[] = inits;
    for (const offset of along) {
      sums = body(...sums, ...numbers.map((values) => values[start + offset]!));
    }
    return sums;
  });
  const resultDims = kept.map((d) => dims[d]!);
  return inputs.map(({ shape }, n) =>
    literalFrom({ type: shape.type, dims: resultDims }, (i) => at(at(results, i), n)),
  );
}

/**
 * Evaluates a reduce-window of one or more inputs. Padding has the initial values, as in StableHLO.
 * So have the gaps that dilation makes between elements of an input.
 */
export function reduceWindowOf(
  it: ReduceWindow,
  operands: readonly Literal[],
  body: ScalarBody,
): readonly Literal[] {
  const inputs = operands.slice(0, operands.length / 2);
  const inits = operands.slice(inputs.length).map((init) => scalarAt(init, 0));
  const numbers = inputs.map(scalarsOf);
  const shapes = leafShapes(it.shape).filter(isArray);
  const results: (readonly Scalar[])[] = [];
  forEachIndex(at(shapes, 0).dims, (position) => {
    let sums: readonly Scalar[] = inits;
    forEachInWindow(it.window, position, at(inputs, 0).shape.dims, (place) => {
      sums = body(...sums, ...(place < 0 ? inits : numbers.map((values) => values[place]!)));
    });
    results.push(sums);
  });
  return shapes.map((shape, n) => literalFrom(shape, (i) => at(at(results, i), n)));
}

/**
 * Evaluates a select-and-scatter. Padding is never selected. If a window has only padding, the
 * window's element of the source is dropped.
 */
export function selectAndScatterOf(
  it: SelectAndScatter,
  operands: readonly [operand: Literal, source: Literal, init: Literal],
  keeps: ScalarBody,
  scatter: ScalarBody,
): Literal {
  const [operand, source, init] = operands;
  const numbers = scalarsOf(operand);
  const result = new Array<Scalar>(elementCount(it.shape)).fill(scalarAt(init, 0));
  forEachIndex(source.shape.dims, (position, flat) => {
    let selected = -1;
    forEachInWindow(it.window, position, operand.shape.dims, (place) => {
      if (place < 0) return;
      if (selected < 0 || keeps(numbers[selected]!, numbers[place]!)[0] === 0) selected = place;
    });
    if (selected < 0) return;
    result[selected] = scatter(result[selected]!, scalarAt(source, flat))[0]!;
  });
  return literalFrom(it.shape, (i) => result[i]!);
}

/**
 * Calls `visit` for each element of one window, in row-major order. `position` has the position of
 * the window along each dimension. `visit` receives the row-major index of the element in an array
 * of dimensions `dims`. For padding, and for a gap that dilation makes between elements, it
 * receives −1.
 */
function forEachInWindow(
  window: readonly WindowDimension[],
  position: readonly number[],
  dims: readonly number[],
  visit: (place: number) => void,
): void {
  const strides = stridesOf(dims);
  forEachIndex(
    window.map(({ size }) => size),
    (offset) => {
      visit(
        offset.reduce((place, n, d) => {
          const element = windowElement(position[d]!, n, dims[d]!, at(window, d));
          return place < 0 || element < 0 ? -1 : place + element * strides[d]!;
        }, 0),
      );
    },
  );
}
