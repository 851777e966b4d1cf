import { make } from './build.ts';
import type { HloComputation, HloInstruction, Sort, Topk } from './instruction.ts';

/* Builders of the operations that put elements in an order. */

/**
 * Sorts arrays of the same dimensions together along `dimension`. `body` takes, for each array, an
 * element of a group a and an element of a group b, and returns true if a must come before b. With
 * one array, the result is an array; with several arrays, it is a tuple.
 */
export function sort(
  operands: readonly HloInstruction[],
  dimension: number,
  body: HloComputation,
  isStable = true,
): Sort {
  return make<Sort>({ opcode: 'sort', operands, dimension, isStable, body });
}

/**
 * The `k` largest elements of each line of x along the last dimension, in descending order, and
 * their indices; or the `k` smallest elements, in ascending order. The result is a tuple.
 */
export function topk(x: HloInstruction, k: number, largest = true): Topk {
  return make<Topk>({ opcode: 'topk', operands: [x], k, largest });
}
