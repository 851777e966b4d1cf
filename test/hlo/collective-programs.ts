import * as c from '../../src/hlo/build-collective.ts';
import type { HloInstruction } from '../../src/hlo/instruction.ts';
import { arrayShape } from '../../src/numerics/shape.ts';

/** What a rule needs of the builder of random programs. */
interface Operands {
  readonly like: (shape: ReturnType<typeof arrayShape>) => HloInstruction;
}

const operand = (builder: Operands): HloInstruction => builder.like(arrayShape('f32', [8, 2]));

type CollectiveRule = (builder: Operands) => readonly HloInstruction[];

type Name =
  | 'all-gather'
  | 'reduce-scatter'
  | 'all-to-all'
  | 'collective-permute'
  | 'collective-broadcast';

/** Collectives that are right for one replica; the results of some are right for no other number. */
export const collectiveRules: Readonly<Record<Name, CollectiveRule>> = {
  'all-gather': (builder) => [c.allGather(operand(builder), 1, { dimension: 1 })],
  'reduce-scatter': (builder) => [c.reduceScatter(operand(builder), 1, { dimension: 0 })],
  'all-to-all': (builder) => [c.allToAll(operand(builder), { dimension: 0 })],
  'collective-permute': (builder) => [c.collectivePermute(operand(builder), [[0, 0]])],
  'collective-broadcast': (builder) => [c.collectiveBroadcast(operand(builder))],
};
