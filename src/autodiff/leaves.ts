import { full, getTupleElement, tuple } from '../hlo/build.ts';
import type { HloInstruction } from '../hlo/instruction.ts';
import { assert, at } from '../numerics/assert.ts';
import { isArray, leafShapes, type Shape } from '../numerics/shape.ts';

/** A leaf of a shape: an array or a token, and the indices that lead to it from the whole. */
export interface Leaf {
  readonly shape: Shape;
  readonly path: readonly number[];
}

/** Returns the leaves of a shape, depth first. An array or a token is its own only leaf. */
export function leavesOf(shape: Shape): Leaf[] {
  if (shape.type !== 'tuple') return [{ shape, path: [] }];
  return shape.elements.flatMap((element, i) =>
    leavesOf(element).map((leaf) => ({ ...leaf, path: [i, ...leaf.path] })),
  );
}

/** Returns, for each element of a tuple, the number of its first leaf. */
export function firstLeaves(elements: readonly Shape[]): number[] {
  let count = 0;
  return elements.map((element) => {
    const first = count;
    count += leafShapes(element).length;
    return first;
  });
}

/** Returns all leaves of a value as instructions. */
export function leafValues(it: HloInstruction): HloInstruction[] {
  return leavesOf(it.shape).map(({ path }) => path.reduce(elementOf, it));
}

function elementOf(it: HloInstruction, i: number): HloInstruction {
  return it.opcode === 'tuple' ? at(it.operands, i) : getTupleElement(it, i);
}

/** Returns a value of the given shape whose leaves are `leaves`. */
export function valueOfLeaves(shape: Shape, leaves: readonly HloInstruction[]): HloInstruction {
  if (shape.type !== 'tuple') return at(leaves, 0);
  const firsts = firstLeaves(shape.elements);
  return tuple(shape.elements.map((it, i) => valueOfLeaves(it, leaves.slice(at(firsts, i)))));
}

/** True for arrays of floats, which alone have cotangents. */
export function isFloatShape(shape: Shape): boolean {
  return isArray(shape) && (shape.type === 'f32' || shape.type === 'bf16');
}

/** Returns an array of zeros. */
export function zerosOf(shape: Shape): HloInstruction {
  assert(isArray(shape), 'only arrays have cotangents');
  return full(shape.type, shape.dims, 0);
}
