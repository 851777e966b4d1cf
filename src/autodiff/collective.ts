import { allReduce } from '../hlo/build.ts';
import { allGather, allToAll, collectivePermute, reduceScatter } from '../hlo/build-collective.ts';
import type {
  AllGather,
  AllReduce,
  AllToAll,
  CollectivePermute,
  HloInstruction,
  ReduceScatter,
} from '../hlo/instruction.ts';
import { at } from '../numerics/assert.ts';
import { combinerOf } from './reduction.ts';
import { arrayOf, type Contribution, noDerivative, operand, toOperands } from './rule.ts';

/**
 * Returns the cotangent of an all-reduce's operand: the all-reduce of the cotangent of the result.
 * The operand of one replica is a summand of the result of every replica. So the cotangent of that
 * operand is the sum of the cotangents of all these results. An all-reduce computes this sum.
 */
export function allReduceRule(it: AllReduce, ct: HloInstruction): Contribution[] {
  return [throughAllReduce(it, 0, ct)];
}

/** Returns the contribution of the cotangent `ct` of result `index` of an all-reduce. */
export function throughAllReduce(it: AllReduce, index: number, ct: HloInstruction): Contribution {
  requireSum(it);
  return { to: operand(it, index), cotangent: () => allReduce(ct, it.body, it.groups) };
}

/** An operand is a part of the result of every member, so its cotangent is a sum of parts. */
export function allGatherRule(it: AllGather, ct: HloInstruction): Contribution[] {
  return toOperands(it, () => reduceScatter(ct, membersOf(it, it.shape, operand(it, 0)), it));
}

/** A part of an operand is a summand of the result of one member. */
export function reduceScatterRule(it: ReduceScatter, ct: HloInstruction): Contribution[] {
  requireSum(it);
  return toOperands(it, () => allGather(ct, membersOf(it, arrayOf(operand(it, 0)), it), it));
}

/** The parts of the cotangent go back the way that the parts of the operand came. */
export function allToAllRule(it: AllToAll, ct: HloInstruction): Contribution[] {
  return toOperands(it, () => allToAll(ct, it));
}

/** The cotangent goes from each target back to its source. */
export function collectivePermuteRule(it: CollectivePermute, ct: HloInstruction): Contribution[] {
  const back = it.pairs.map(([source, target]) => [target, source] as const);
  return toOperands(it, () => collectivePermute(ct, back));
}

function requireSum(it: AllReduce | ReduceScatter): void {
  if (combinerOf(it.body) !== 'add') throw noDerivative(it, `${it.body.name} is not a sum`);
}

/** Returns the size of the groups: how many parts of the size of `one` make up `whole`. */
function membersOf(
  { dimension }: AllGather | ReduceScatter,
  whole: { readonly dims: readonly number[] },
  one: HloInstruction,
): number {
  return at(whole.dims, dimension) / at(arrayOf(one).dims, dimension);
}
