import { allReduce } from '../hlo/build.ts';
import type { AllReduce, GetTupleElement, HloInstruction } from '../hlo/instruction.ts';
import { combinerOf } from './reduction.ts';
import { type Contribution, noDerivative, operand } from './rule.ts';

/**
 * Returns the cotangent of an all-reduce's operand: the all-reduce of the cotangent of the result.
 * A sum over replicas is its own transpose, because the operand of each replica is part of the
 * result of every replica.
 */
export function allReduceRule(it: AllReduce, ct: HloInstruction): Contribution[] {
  return [throughAllReduce(it, 0, ct)];
}

/**
 * Passes the cotangent `ct` of a tuple element to the instruction that computes the element; the
 * tuple itself has no cotangent. If the tuple is the result of an all-reduce, the operand receives
 * the all-reduce of `ct`. If the tuple is a parameter or the result of an infeed or a random
 * generator, no instruction receives a cotangent. Throws `bad-program` for a tuple of any other
 * opcode.
 */
export function getTupleElementRule(it: GetTupleElement, ct: HloInstruction): Contribution[] {
  const whole = operand(it, 0);
  switch (whole.opcode) {
    case 'tuple':
      return [{ to: operand(whole, it.index), cotangent: () => ct }];
    case 'all-reduce':
      return [throughAllReduce(whole, it.index, ct)];
    case 'parameter':
    case 'infeed':
    case 'rng-bit-generator':
      return [];
    default:
      throw noDerivative(whole, 'it is a tuple of results that depend on one another');
  }
}

function throughAllReduce(it: AllReduce, index: number, ct: HloInstruction): Contribution {
  if (combinerOf(it.body) !== 'add') throw noDerivative(it, `${it.body.name} is not a sum`);
  return { to: operand(it, index), cotangent: () => allReduce(ct, it.body) };
}
