import type { HloInstruction } from '../../hlo/instruction.ts';
import { assert, at } from '../../numerics/assert.ts';
import { type ArrayShape, isArray } from '../../numerics/shape.ts';
import { type Affine, type Variable, variablesOf } from './affine.ts';
import type { Node } from './ssa.ts';

/**
 * Position of an element in an array: one index expression (function of loop counters) for each
 * dimension.
 */
export type Point = readonly Affine[];

/**
 * Elements that SIMD lanes compute at the same time. Each node is one v128 with four elements. A
 * value has `Vector.unroll` nodes. If all these nodes are equal, the value may have a single node,
 * which stands for all of them.
 */
export type Value = readonly Node[];

/**
 * Vectorization of the innermost loop. With `width` 4, one iteration computes 4 · `unroll`
 * successive values of the counter `variable` in SIMD lanes, four in each v128. With `width` 1, one
 * iteration computes one value of the counter and uses one lane.
 */
export interface Vector {
  readonly variable: Variable | undefined;
  readonly width: 1 | 4;
  readonly unroll: number;
}

/**
 * Loops of a nest that are merged. To merge two nested loops, the outer loop is dropped, and the
 * inner loop runs as many iterations as both loops together. `dropped` has the keys of the counters
 * of dropped loops. `trips` has the number of iterations of each merged loop, under the key of its
 * inner counter.
 */
export interface Merges {
  readonly dropped: ReadonlySet<string>;
  readonly trips: ReadonlyMap<string, number>;
}

/**
 * Applies an operation to node 0 of all values, to node 1 of all values, and so on. If a value has
 * a single node, which stands for several equal nodes, that node is used each time.
 */
export function each(operation: (...nodes: Node[]) => Node, ...values: readonly Value[]): Value {
  const count = values.reduce((most, value) => Math.max(most, value.length), 1);
  return repeat(count, (u) => operation(...values.map((value) => pick(value, u))));
}

/** Returns node `u` of a value (lanes 4u to 4u + 3), or its single node if all nodes are equal. */
export function pick(value: Value, u: number): Node {
  return at(value, value.length === 1 ? 0 : u);
}

/** Returns the list of `make(0)`, `make(1)`, …, `make(count − 1)`. */
export function repeat<T>(count: number, make: (u: number) => T): T[] {
  return Array.from({ length: count }, (_, u) => make(u));
}

/** Returns the shape of an instruction whose value must be an array (asserted). */
export function arrayOf(it: HloInstruction): ArrayShape {
  assert(isArray(it.shape), `${it.opcode} is an array`);
  return it.shape;
}

/** True if an index of the point contains the loop counter `on`. */
export function dependsOn(point: Point, on: Variable): boolean {
  return point.some((index) => variablesOf(index).some(({ key }) => key === on.key));
}
