import { at } from '../../numerics/assert.ts';
import { arrayShape, type Shape, tupleShape } from '../../numerics/shape.ts';
import { sortOf, topkOf } from '../evaluate/ordering.ts';
import { literalOf } from '../evaluate/value.ts';
import type { Draft, HloComputation, InstructionBase } from '../instruction.ts';
import { callee, field, flag, integer, oneDimension, truth } from '../text/attribute.ts';
import {
  arrayOperand,
  arraysOfOneSize,
  expect,
  expectKind,
  expectOperands,
  expectSignature,
  isIndexBelow,
  oneOrTuple,
  refuse,
} from './check.ts';
import type { Definition, DefinitionsOf } from './definition.ts';

/** Operations that put elements in an order. */
export type Ordering = Sort | Topk;

/**
 * Sorts n arrays of the same dimensions together, along `dimension`. Each line along `dimension` is
 * sorted on its own. Position i of a line stands for a group: element i of that line in every
 * array. A sort moves whole groups.
 *
 * `body` takes 2n scalars: for each array its element of a group a, then its element of a group b.
 * It returns true if a must come before b. If neither of two groups must come before the other,
 * they keep their order, with or without `isStable`. For XLA, this is sure only with `isStable`.
 *
 * `body` must be a strict weak order. If it is not, the result is the one of the merge sort in
 * evaluate/ordering.ts: groups in some order that the same program always gives again. XLA promises
 * nothing for such a `body`.
 *
 * With one array, the result is an array; with several arrays, it is a tuple.
 */
export interface Sort extends InstructionBase<'sort', Shape> {
  readonly dimension: number;
  readonly isStable: boolean;
  readonly body: HloComputation;
}

/**
 * The `k` largest elements of each line along the last dimension, or the smallest ones. Operand:
 * the array. Result: a tuple of the elements and their indices (s32). The elements are in
 * descending order if `largest` is true, otherwise in ascending order. Of equal elements, the one
 * with the lower index comes first.
 *
 * Floats are in the total order of IEEE 754: −NaN, −∞, …, −0, +0, …, +∞, +NaN.
 */
export interface Topk extends InstructionBase<'topk', Shape> {
  readonly k: number;
  readonly largest: boolean;
}

const sort: Definition<Sort> = {
  family: 'ordering',
  attributes: [
    field('dimensions', 'dimension', oneDimension),
    flag('is_stable', 'isStable'),
    field('to_apply', 'body', callee),
  ],
  bodies: ({ body }) => [body],
  infer: sortShape,
  evaluate: (it, operands, run) => {
    const results = sortOf(it, operands.map(literalOf), run);
    return results.length === 1 ? at(results, 0) : results;
  },
};

const topk: Definition<Topk> = {
  family: 'ordering',
  attributes: [field('k', 'k', integer), field('largest', 'largest', truth)],
  infer: topkShape,
  evaluate: (it, [x]) => topkOf(it, literalOf(x!)),
};

/** Definitions of {@link Ordering}. */
export const orderingDefinitions: DefinitionsOf<Ordering> = { sort, topk };

function sortShape(it: Draft<Sort>): Shape {
  const shapes = arraysOfOneSize(it);
  const { dims } = at(shapes, 0);
  const { dimension } = it;
  expect(it, isIndexBelow(dimension, dims.length), `a dimension below ${dims.length}`);
  const pairs = shapes.flatMap(({ type }) => [arrayShape(type, []), arrayShape(type, [])]);
  expectSignature(it, it.body, pairs, arrayShape('pred', []));
  return oneOrTuple(shapes);
}

function topkShape(it: Draft<Topk>): Shape {
  expectOperands(it, 1);
  const { type, dims } = arrayOperand(it, 0);
  expectKind(it, 'number', { type, dims });
  const size = dims.at(-1) ?? refuse(it, 'an array with a dimension, not a scalar');
  expect(it, isIndexBelow(it.k, size + 1), `k of at most ${size}, not ${it.k}`);
  const kept = dims.with(-1, it.k);
  return tupleShape([arrayShape(type, kept), arrayShape('s32', kept)]);
}
