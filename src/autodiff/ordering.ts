import {
  broadcast,
  compare,
  computation,
  getTupleElement,
  iota,
  parameter,
  reduceSum,
  select,
} from '../hlo/build.ts';
import { sort } from '../hlo/build-ordering.ts';
import type { HloComputation, HloInstruction, Sort, Topk } from '../hlo/instruction.ts';
import { at } from '../numerics/assert.ts';
import { type ArrayShape, arrayShape } from '../numerics/shape.ts';
import { filled } from './fill.ts';
import { arrayOf, type Contribution, type Cotangents, operand } from './rule.ts';
import { indices } from './shape.ts';

/**
 * Returns the cotangents of the operands of a sort. A second sort, which also moves the indices of
 * the elements, tells from where each element came. A third sort, by these indices, moves each
 * cotangent back to that place.
 */
export function sortRule(it: Sort, cotangents: Cotangents): Contribution[] {
  const { dims } = arrayOf(operand(it, 0));
  const count = it.operands.length;
  const places = arrayShape('s32', dims);
  const both = sort(
    [...it.operands, iota(places, it.dimension)],
    it.dimension,
    withMore(it.body, ['s32']),
    it.isStable,
  );
  const from = getTupleElement(both, count);
  const given = cotangents.flatMap((ct, i) => (ct === undefined ? [] : [i]));
  const moved = given.map((i) => cotangents[i]!);
  const types = moved.map((ct) => arrayOf(ct).type);
  const back = sort([from, ...moved], it.dimension, withMore(lowerFirst, types));
  return given.map((i, n) => ({
    to: operand(it, i),
    cotangent: () => getTupleElement(back, n + 1),
  }));
}

/** The comparator of a sort of s32 in ascending order. */
const lowerFirst: HloComputation = ascending();

function ascending(): HloComputation {
  const [a, b] = [0, 1].map((i) => parameter(i, arrayShape('s32', [])));
  return computation('lower_first', [a!, b!], compare('LT', a!, b!));
}

/** Returns the same comparator for a sort that moves more arrays, of the given types. */
function withMore(body: HloComputation, types: readonly ArrayShape['type'][]): HloComputation {
  const first = body.parameters.length;
  const more = types.flatMap((type, n) =>
    [0, 1].map((side) => parameter(first + 2 * n + side, arrayShape(type, []))),
  );
  return computation(body.name, [...body.parameters, ...more], body.root);
}

/**
 * Returns the cotangent of the operand of a topk. Each cotangent goes to the place that its index
 * names, all other places get 0.
 */
export function topkRule(it: Topk, [ct]: Cotangents): Contribution[] {
  if (ct === undefined) return [];
  return [{ to: operand(it, 0), cotangent: () => placed(it, ct) }];
}

/**
 * Returns the cotangents of a topk at the places of their elements. For each cotangent, it compares
 * the index with every place of the line.
 */
function placed(it: Topk, ct: HloInstruction): HloInstruction {
  const { dims } = arrayOf(operand(it, 0));
  const kept = arrayOf(ct).dims;
  const last = dims.length - 1;
  const all = [...kept, at(dims, last)];
  const spread = (x: HloInstruction): HloInstruction => broadcast(x, all, indices(kept));
  const index = spread(getTupleElement(it, 1));
  const isThere = compare('EQ', index, iota(arrayShape('s32', all), last + 1));
  const values = spread(ct);
  return reduceSum(select(isThere, values, filled(values, 0)), [last]);
}
