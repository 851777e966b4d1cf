import { allReduce } from '../hlo/build.ts';
import type { AllReduce, GetTupleElement, HloInstruction } from '../hlo/instruction.ts';
import { combinerOf } from './reduction.ts';
import { type Contribution, noDerivative, operand } from './rule.ts';

/**
 * Returns the cotangent of an all-reduce's operand: the all-reduce of the result's cotangent. A sum
 * over replicas is its own transpose, because each replica's operand is part of every result.
 */
export function allReduceRule(it: AllReduce, ct: HloInstruction): Contribution[] {
  return [throughAllReduce(it, 0, ct)];
}

/**
 * Passes the cotangent to the operand that the tuple element comes from, since a tuple as a whole
 * has no cotangent. An element of a parameter, an infeed or random bits passes nothing on. Throws
 * `bad-program` for tuples of any other opcode.
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
