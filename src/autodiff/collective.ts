import { allReduce } from '../hlo/build.ts';
import type { AllReduce, GetTupleElement, HloInstruction } from '../hlo/instruction.ts';
import { combinerOf } from './reduction.ts';
import { type Contribution, noDerivative, operand } from './rule.ts';

/**
 * Returns the cotangent of an all-reduce's operand: the all-reduce of the cotangent of the result.
 * The operand of one replica is a summand of the result of every replica. So the cotangent of that
 * operand is the sum of the cotangents of all these results. An all-reduce computes this sum.
 */
export function allReduceRule(it: AllReduce, ct: HloInstruction): Contribution[] {
  return [throughAllReduce(it, 0, ct)];
}

/**
 * Passes on the cotangent `ct` of element i of a tuple; the tuple itself has no cotangent. What
 * receives a cotangent depends on the opcode of the tuple:
 *
 * - `tuple`: operand i receives `ct`;
 * - `all-reduce`: operand i receives the all-reduce of `ct`;
 * - parameter, infeed or random generator: nothing;
 * - any other opcode: throws `bad-program`.
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
