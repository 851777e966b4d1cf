import type { GetTupleElement, HloInstruction, Tuple } from '../hlo/instruction.ts';
import { at } from '../numerics/assert.ts';
import { throughAllReduce } from './collective.ts';
import { firstLeaves } from './leaves.ts';
import { type Contribution, type Cotangents, operand } from './rule.ts';

/** Passes the cotangents of a tuple on to its elements. */
export function tupleRule(it: Tuple, cotangents: Cotangents): Contribution[] {
  const firsts = firstLeaves(it.operands.map(({ shape }) => shape));
  return it.operands.flatMap((to, i) => {
    const first = at(firsts, i);
    return toLeaves(to, 0, cotangents.slice(first, firsts[i + 1]));
  });
}

/**
 * Passes on the cotangents of element i of a tuple. What receives them depends on the opcode of the
 * tuple:
 *
 * - `tuple`: operand i receives them;
 * - `all-reduce`: operand i receives the all-reduce of the cotangent;
 * - infeed or random generator: nothing;
 * - any other opcode: the leaves of the tuple that belong to element i.
 */
export function getTupleElementRule(it: GetTupleElement, cotangents: Cotangents): Contribution[] {
  const whole = operand(it, 0);
  switch (whole.opcode) {
    case 'tuple':
      return toLeaves(operand(whole, it.index), 0, cotangents);
    case 'all-reduce':
      return cotangents.flatMap((ct) =>
        ct === undefined ? [] : [throughAllReduce(whole, it.index, ct)],
      );
    case 'infeed':
    case 'rng-bit-generator':
      return [];
    default: {
      const elements = whole.shape.type === 'tuple' ? whole.shape.elements : [];
      return toLeaves(whole, at(firstLeaves(elements), it.index), cotangents);
    }
  }
}

/**
 * Passes cotangents on to consecutive leaves of `to`, one to each. `first` is the number of the leaf
 * that gets the first cotangent.
 */
export function toLeaves(
  to: HloInstruction,
  first: number,
  cotangents: Cotangents,
): Contribution[] {
  return cotangents.flatMap((ct, i) =>
    ct === undefined ? [] : [{ to, leaf: first + i, cotangent: () => ct }],
  );
}
