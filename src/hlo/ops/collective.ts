import { at } from '../../numerics/assert.ts';
import { literalFrom } from '../../numerics/literal.ts';
import { type ArrayShape, arrayShape, type Shape, sameShape } from '../../numerics/shape.ts';
import { exchanged, joined, part } from '../evaluate/collective.ts';
import { literalOf, type Value } from '../evaluate/value.ts';
import type { Draft, HloComputation, InstructionBase } from '../instruction.ts';
import { type Codec, callee, field, oneDimension } from '../text/attribute.ts';
import { readIntegers } from '../text/read.ts';
import {
  arrayOperand,
  expect,
  expectOperands,
  expectSignature,
  isIndex,
  isIndexBelow,
  oneOrTuple,
  statedArray,
} from './check.ts';
import type { Combine, Definition, DefinitionsOf } from './definition.ts';
import { expectGroups, type Grouped, groupsAttribute, inGroups } from './groups.ts';

/** Operations that combine values of several replicas. */
export type Collective =
  | AllReduce
  | AllGather
  | ReduceScatter
  | AllToAll
  | CollectivePermute
  | CollectiveBroadcast;

/**
 * Combines each operand over all replicas of a group with `body`, which is usually a sum. With one
 * operand, the result is an array; with several operands, it is a tuple.
 */
export interface AllReduce extends InstructionBase<'all-reduce', Shape>, Grouped {
  readonly body: HloComputation;
}

/**
 * Joins the operands of all replicas of a group along a dimension, in the order of the group.
 * Operand: x. The stated shape has the size of the group times that of x along the dimension.
 */
export interface AllGather extends InstructionBase<'all-gather'>, Grouped {
  readonly dimension: number;
}

/**
 * Combines the operands of all replicas of a group with `body`, and cuts the result along a
 * dimension into equal parts. Member i of the group gets part i. Operand: x.
 */
export interface ReduceScatter extends InstructionBase<'reduce-scatter'>, Grouped {
  readonly dimension: number;
  readonly body: HloComputation;
}

/**
 * Exchanges parts within a group. Each replica cuts its operand along a dimension into one part for
 * each member of the group, and gets the parts that are its own, joined in the order of the group.
 * Operand: x.
 */
export interface AllToAll extends InstructionBase<'all-to-all'>, Grouped {
  readonly dimension: number;
}

/**
 * Sends the operand of each source to its target. A replica that is no target gets zeros. Operand:
 * x.
 */
export interface CollectivePermute extends InstructionBase<'collective-permute'> {
  /** Pairs of a source and a target. No replica is the source, or the target, of two pairs. */
  readonly pairs: readonly (readonly [source: number, target: number])[];
}

/** Gives the operand of the first member of a group to all of its members. Operand: x. */
export interface CollectiveBroadcast extends InstructionBase<'collective-broadcast'>, Grouped {}

const pairs: Codec<CollectivePermute['pairs']> = {
  write: (list) => `{${list.map(([source, target]) => `{${source},${target}}`).join(',')}}`,
  read: (scanner) =>
    scanner.list('{', '}', () => {
      const [source, target, ...others] = readIntegers(scanner);
      const isPair = source !== undefined && target !== undefined && others.length === 0;
      return isPair ? ([source, target] as const) : scanner.fail('a source and a target');
    }),
};

const allReduce: Definition<AllReduce> = {
  family: 'collective',
  effect: 'exchanges',
  replicas: ({ groups }) => (groups.length === 0 ? 'agree' : 'differ'),
  attributes: [groupsAttribute(), field('to_apply', 'body', callee)],
  bodies: ({ body }) => [body],
  infer: allReduceShape,
  exchange: (it, operands, combine) =>
    inGroups(it, operands, (members) => {
      const results = at(members, 0).map((_, i) => combined(it.body, members, combine, i));
      return members.map(() => (results.length === 1 ? at(results, 0) : results));
    }),
};

const allGather: Definition<AllGather> = {
  family: 'collective',
  effect: 'exchanges',
  replicas: ({ groups }) => (groups.length === 0 ? 'agree' : 'differ'),
  attributes: [groupsAttribute(), field('dimensions', 'dimension', oneDimension)],
  infer: (it) => scaledShape(it, (operand, result) => [operand, result]),
  exchange: (it, operands) =>
    inGroups(it, operands, (members) => {
      const result = joined(it.shape, members.map(onlyArray), it.dimension);
      return members.map(() => result);
    }),
};

const reduceScatter: Definition<ReduceScatter> = {
  family: 'collective',
  effect: 'exchanges',
  replicas: 'differ',
  attributes: [
    groupsAttribute(),
    field('dimensions', 'dimension', oneDimension),
    field('to_apply', 'body', callee),
  ],
  bodies: ({ body }) => [body],
  infer: reduceScatterShape,
  exchange: (it, operands, combine) =>
    inGroups(it, operands, (members) => {
      const whole = combined(it.body, members, combine);
      const count = members.length;
      return members.map((_, index) => part(it.shape, whole, it.dimension, { index, count }));
    }),
};

const allToAll: Definition<AllToAll> = {
  family: 'collective',
  effect: 'exchanges',
  replicas: 'differ',
  attributes: [groupsAttribute(), field('dimensions', 'dimension', oneDimension)],
  infer: allToAllShape,
  exchange: (it, operands) =>
    inGroups(it, operands, (members) => exchanged(members.map(onlyArray), it.dimension)),
};

const collectivePermute: Definition<CollectivePermute> = {
  family: 'collective',
  effect: 'exchanges',
  replicas: 'differ',
  attributes: [field('source_target_pairs', 'pairs', pairs)],
  infer: permuteShape,
  exchange: (it, operands) => {
    const last = Math.max(-1, ...it.pairs.flat());
    expect(it, last < operands.length, `replicas from 0 to ${operands.length - 1}, not ${last}`);
    return operands.map((_, replica) => {
      const pair = it.pairs.find(([, target]) => target === replica);
      return pair === undefined ? literalFrom(it.shape, () => 0) : onlyArray(at(operands, pair[0]));
    });
  },
};

const collectiveBroadcast: Definition<CollectiveBroadcast> = {
  family: 'collective',
  effect: 'exchanges',
  replicas: ({ groups }) => (groups.length === 0 ? 'agree' : 'differ'),
  attributes: [groupsAttribute()],
  infer: (it) => {
    expectOperands(it, 1);
    expectGroups(it);
    return arrayOperand(it, 0);
  },
  exchange: (it, operands) =>
    inGroups(it, operands, (members) => members.map(() => onlyArray(at(members, 0)))),
};

/** Definitions of {@link Collective}. */
export const collectiveDefinitions: DefinitionsOf<Collective> = {
  'all-reduce': allReduce,
  'all-gather': allGather,
  'reduce-scatter': reduceScatter,
  'all-to-all': allToAll,
  'collective-permute': collectivePermute,
  'collective-broadcast': collectiveBroadcast,
};

/** Returns the only operand of a replica, which is an array. */
function onlyArray(operands: readonly Value[]): ReturnType<typeof literalOf> {
  return literalOf(at(operands, 0));
}

/** Combines operand `i` of all members of a group. */
function combined(
  body: HloComputation,
  members: readonly (readonly Value[])[],
  combine: Combine,
  i = 0,
): ReturnType<Combine> {
  return combine(
    members.map((operands) => literalOf(at(operands, i))),
    body,
  );
}

function allReduceShape(it: Draft<AllReduce>): Shape {
  expect(it, it.operands.length > 0, 'at least one operand');
  expectGroups(it);
  const shapes = it.operands.map((_, i) => arrayOperand(it, i));
  for (const { type } of shapes) expectScalarBody(it, it.body, type);
  return oneOrTuple(shapes);
}

function reduceScatterShape(it: Draft<ReduceScatter>): Shape {
  expectOperands(it, 1);
  expectScalarBody(it, it.body, arrayOperand(it, 0).type);
  return scaledShape(it, (operand, result) => [result, operand]);
}

function allToAllShape(it: Draft<AllToAll>): Shape {
  expectOperands(it, 1);
  expectGroups(it);
  const operand = arrayOperand(it, 0);
  const size = sizeAlong(it, operand);
  const members = at([...it.groups.map(({ length }) => length), 1], 0);
  expect(
    it,
    size % members === 0,
    `a size along dimension ${it.dimension} that ${members} divides`,
  );
  return operand;
}

function permuteShape(it: Draft<CollectivePermute>): Shape {
  expectOperands(it, 1);
  expect(it, it.pairs.flat().every(isIndex), 'replicas with numbers of 0 or more');
  for (const end of [0, 1] as const) {
    const ends = new Set(it.pairs.map((pair) => pair[end]));
    expect(it, ends.size === it.pairs.length, 'each replica once as source and once as target');
  }
  return arrayOperand(it, 0);
}

function expectScalarBody(it: Draft, body: HloComputation, type: ArrayShape['type']): void {
  const scalar = arrayShape(type, []);
  expectSignature(it, body, [scalar, scalar], scalar);
}

/**
 * Returns the stated shape, which along the dimension is a multiple of the operand's, or the other
 * way round. `pair` returns the smaller and the larger of the two.
 */
function scaledShape(
  it: Draft<AllGather | ReduceScatter>,
  pair: (operand: ArrayShape, result: ArrayShape) => readonly [ArrayShape, ArrayShape],
): Shape {
  expectOperands(it, 1);
  expectGroups(it);
  const result = statedArray(it);
  const [small, large] = pair(arrayOperand(it, 0), result);
  const [size, whole] = [sizeAlong(it, small), sizeAlong(it, large)];
  const dims = small.dims.map((n, d) => (d === it.dimension ? whole : n));
  const [group] = it.groups;
  const members = group?.length ?? (size === 0 ? 0 : whole / size);
  const fits = Number.isInteger(members) && whole === size * members;
  const isScaled = fits && sameShape({ ...small, dims }, large);
  expect(it, isScaled, `one part for each replica along dimension ${it.dimension}`);
  return result;
}

function sizeAlong(it: Draft<AllGather | ReduceScatter | AllToAll>, { dims }: ArrayShape): number {
  const { dimension } = it;
  expect(
    it,
    isIndexBelow(dimension, dims.length),
    `a dimension below ${dims.length}, not ${dimension}`,
  );
  return at(dims, dimension);
}
