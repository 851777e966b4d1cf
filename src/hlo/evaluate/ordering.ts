import { at } from '../../numerics/assert.ts';
import { type Literal, literalFrom } from '../../numerics/literal.ts';
import { arrayShape, elementCount, otherDimensions } from '../../numerics/shape.ts';
import type { Sort, Topk } from '../instruction.ts';
import type { Run } from '../ops/definition.ts';
import { isTrue } from './control.ts';
import { totalOrder } from './total-order.ts';
import { gathered, offsetsAlong, type Value } from './value.ts';

/** Evaluates a sort. Moves elements without changing their bits. */
export function sortOf(it: Sort, operands: readonly Literal[], run: Run): readonly Literal[] {
  const { dims } = at(operands, 0).shape;
  const elements = operands.map(scalarsAsLiterals);
  const comesBefore = (a: number, b: number): boolean => {
    const pairs = elements.flatMap((element) => [element(a), element(b)]);
    return isTrue(run.call(it.body, pairs));
  };
  const from = new Float64Array(elementCount(at(operands, 0).shape));
  const along = offsetsAlong(dims, [it.dimension]);
  for (const start of offsetsAlong(dims, otherDimensions(dims.length, [it.dimension]))) {
    const line = along.map((offset) => start + offset);
    mergeSorted(line, comesBefore).forEach((place, i) => {
      from[at(line, i)] = place;
    });
  }
  return operands.map((operand) => gathered(operand.shape, operand, from));
}

/** Evaluates a topk. */
export function topkOf({ k, largest }: Topk, x: Literal): Value {
  const { type, dims } = x.shape;
  const last = dims.length - 1;
  const rank = totalOrder(x);
  const comesBefore = (a: number, b: number): boolean =>
    largest ? rank(a) > rank(b) : rank(a) < rank(b);
  const along = offsetsAlong(dims, [last]);
  const places: number[] = [];
  const indices: number[] = [];
  for (const start of offsetsAlong(dims, otherDimensions(dims.length, [last]))) {
    const line = along.map((_, i) => i);
    const best = mergeSorted(line, (a, b) => comesBefore(start + a, start + b)).slice(0, k);
    indices.push(...best);
    places.push(...best.map((i) => start + i));
  }
  const kept = dims.with(-1, k);
  return [
    gathered(arrayShape(type, kept), x, places),
    literalFrom(arrayShape('s32', kept), (i) => at(indices, i)),
  ];
}

/**
 * Returns the function from an offset to the element there, as a scalar array. The scalar shares
 * the memory of the array, so it has the very bits of the element.
 */
function scalarsAsLiterals({ shape, data }: Literal): (offset: number) => Literal {
  const scalar = arrayShape(shape.type, []);
  return (offset) => ({ shape: scalar, data: data.subarray(offset, offset + 1) });
}

/**
 * Sorts by merging, which is stable: splits the items in halves, the first one not longer than the
 * second, and sorts both. Then takes, again and again, the next item of the second half if
 * `comesBefore` puts it before the next item of the first half; otherwise takes the item of the
 * first half. This also defines the result if `comesBefore` is no order.
 */
function mergeSorted(
  items: readonly number[],
  comesBefore: (a: number, b: number) => boolean,
): readonly number[] {
  if (items.length < 2) return items;
  const middle = Math.floor(items.length / 2);
  const first = mergeSorted(items.slice(0, middle), comesBefore);
  const second = mergeSorted(items.slice(middle), comesBefore);
  const merged: number[] = [];
  let [i, j] = [0, 0];
  while (i < first.length && j < second.length) {
    const isSecond = comesBefore(second[j]!, first[i]!);
    merged.push(isSecond ? second[j++]! : first[i++]!);
  }
  return [...merged, ...first.slice(i), ...second.slice(j)];
}
