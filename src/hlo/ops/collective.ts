import { at } from '../../numerics/assert.ts';
import { arrayShape, type Shape } from '../../numerics/shape.ts';
import { literalOf } from '../evaluate/value.ts';
import type { Draft, HloComputation, InstructionBase } from '../instruction.ts';
import { type Attribute, callee, field } from '../text/attribute.ts';
import { arrayOperand, expect, expectSignature, oneOrTuple } from './check.ts';
import type { Definition, DefinitionsOf } from './definition.ts';

/** Operations that combine values of several replicas. */
export type Collective = AllReduce;

/**
 * Combines each operand over all replicas with `body`, which is usually a sum. With one operand,
 * the result is an array; with several operands, it is a tuple.
 */
export interface AllReduce extends InstructionBase<'all-reduce', Shape> {
  readonly body: HloComputation;
}

/** Groups of replicas that are combined. The empty list stands for one group of all replicas. */
const allReplicas: Attribute<AllReduce> = {
  key: 'replica_groups',
  write: () => '{}',
  read: (scanner) => {
    scanner.expect('{');
    if (!scanner.take('}')) scanner.fail('replica_groups={}, all replicas');
    return {};
  },
  otherwise: {},
};

const allReduce: Definition<AllReduce> = {
  family: 'collective',
  effect: 'exchanges',
  replicas: 'agree',
  attributes: [allReplicas, field('to_apply', 'body', callee)],
  bodies: ({ body }) => [body],
  infer: allReduceShape,
  exchange: ({ body }, operands, combine) => {
    const results = at(operands, 0).map((_, i) => {
      const values = operands.map((replica) => literalOf(at(replica, i)));
      return combine(values, body);
    });
    return operands.map(() => (results.length === 1 ? at(results, 0) : results));
  },
};

/** Definitions of {@link Collective}. */
export const collectiveDefinitions: DefinitionsOf<Collective> = { 'all-reduce': allReduce };

function allReduceShape(it: Draft<AllReduce>): Shape {
  expect(it, it.operands.length > 0, 'at least one operand');
  const shapes = it.operands.map((_, i) => arrayOperand(it, i));
  for (const { type } of shapes) {
    const scalar = arrayShape(type, []);
    expectSignature(it, it.body, [scalar, scalar], scalar);
  }
  return oneOrTuple(shapes);
}
