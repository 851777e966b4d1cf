import { assert, at } from '../../numerics/assert.ts';
import { type Shape, tupleShape } from '../../numerics/shape.ts';
import type { Value } from '../evaluate/value.ts';
import type { Draft, HloComputation, InstructionBase } from '../instruction.ts';
import { type Codec, callee, field, integer } from '../text/attribute.ts';
import { readChoice } from '../text/read.ts';
import { expect, expectCall, expectOperands, isIndexBelow, shapesOf } from './check.ts';
import type { Definition, DefinitionsOf } from './definition.ts';

/** Operations that make tuples, take them apart, or run a fused loop. */
export type Structure = Tuple | GetTupleElement | Fusion;

/** A tuple of several values. Operands: the elements of the tuple. */
export interface Tuple extends InstructionBase<'tuple', Shape> {}

/** Element `index` of a tuple. Operand: the tuple. */
export interface GetTupleElement extends InstructionBase<'get-tuple-element', Shape> {
  readonly index: number;
}

/**
 * A computation that runs as one fused loop. The compiler makes fusions from other instructions.
 * `body` has one parameter for each operand.
 */
export interface Fusion extends InstructionBase<'fusion', Shape> {
  readonly kind: 'loop' | 'reduce';
  readonly body: HloComputation;
}

const tuple: Definition<Tuple> = {
  family: 'structure',
  infer: (it) => tupleShape(shapesOf(it)),
  evaluate: (_, operands) => operands,
};

const getTupleElement: Definition<GetTupleElement> = {
  family: 'structure',
  attributes: [field('index', 'index', integer)],
  infer: elementShape,
  evaluate: ({ index }, operands) => element(at(operands, 0), index),
};

/** Kind of a fusion. XLA calls a loop `kLoop`, and a loop that ends in reductions `kInput`. */
const kind: Codec<Fusion['kind']> = {
  write: (value) => (value === 'loop' ? 'kLoop' : 'kInput'),
  read: (scanner) => (readChoice(scanner, ['kLoop', 'kInput']) === 'kLoop' ? 'loop' : 'reduce'),
};

const fusion: Definition<Fusion> = {
  family: 'structure',
  attributes: [field('kind', 'kind', kind), field('calls', 'body', callee)],
  bodies: ({ body }) => [body],
  infer: (it) => {
    expectCall(it, it.body, shapesOf(it));
    return it.body.root.shape;
  },
  evaluate: ({ body }, operands, run) => run.call(body, operands),
};

/** Definitions of {@link Structure}. */
export const structureDefinitions: DefinitionsOf<Structure> = {
  tuple,
  'get-tuple-element': getTupleElement,
  fusion,
};

function elementShape(it: Draft<GetTupleElement>): Shape {
  const { index } = it;
  expectOperands(it, 1);
  const tuple = at(shapesOf(it), 0);
  expect(
    it,
    tuple.type === 'tuple' && isIndexBelow(index, tuple.elements.length),
    `element ${index}`,
  );
  return at(tuple.elements, index);
}

function element(value: Value, index: number): Value {
  assert(value !== 'token' && !('shape' in value), 'the value is a tuple');
  return at(value, index);
}
