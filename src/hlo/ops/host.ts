import { assert, at } from '../../numerics/assert.ts';
import { PodError } from '../../numerics/error.ts';
import { type Shape, sameShape, shapeText, tupleShape } from '../../numerics/shape.ts';
import { flattened, type Value } from '../evaluate/value.ts';
import type { Draft, InstructionBase } from '../instruction.ts';
import { ignored } from '../text/attribute.ts';
import { readShape } from '../text/read.ts';
import {
  expect,
  expectOperands,
  givenShape,
  isData,
  isToken,
  shapesOf,
  wellFormed,
} from './check.ts';
import type { Definition, DefinitionsOf, Run } from './definition.ts';

/** Operations that exchange data with the host. */
export type Host = AfterAll | Infeed | Outfeed;

/**
 * Combines several tokens into one. Operands: the tokens. An instruction that uses the result runs
 * after the instructions that produced the operands.
 */
export interface AfterAll extends InstructionBase<'after-all', Shape> {}

/**
 * Data from the host. Operand: token. Result: (data, token). Data is an array or a tuple of arrays.
 */
export interface Infeed extends InstructionBase<'infeed', Shape> {}

/** Sends data to the host. Operands: data (an array or a tuple of arrays), token. Result: token. */
export interface Outfeed extends InstructionBase<'outfeed', Shape> {}

const afterAll: Definition<AfterAll> = {
  family: 'host',
  effect: 'orders',
  infer: (it) => {
    expect(it, shapesOf(it).every(isToken), 'tokens');
    return { type: 'token' };
  },
  evaluate: () => 'token',
};

const infeed: Definition<Infeed> = {
  family: 'host',
  effect: 'receives',
  replicas: 'differ',
  attributes: [ignored('infeed_shape', readShape)],
  infer: infeedShape,
  evaluate: ({ shape }, _, run) => received(shape, run),
};

const outfeed: Definition<Outfeed> = {
  family: 'host',
  effect: 'sends',
  attributes: [ignored('outfeed_shape', readShape)],
  infer: (it) => {
    expectOperands(it, 2);
    const [data, token] = shapesOf(it);
    const fits = data !== undefined && isData(data) && token?.type === 'token';
    expect(it, fits, 'an array or a tuple of arrays, and a token');
    return { type: 'token' };
  },
  evaluate: (_, operands, run) => {
    run.send(flattened(at(operands, 0)));
    return 'token';
  },
};

/** Definitions of {@link Host}. */
export const hostDefinitions: DefinitionsOf<Host> = { 'after-all': afterAll, infeed, outfeed };

function infeedShape(it: Draft<Infeed>): Shape {
  expectOperands(it, 1);
  expect(it, isToken(at(shapesOf(it), 0)), 'a token');
  const shape = givenShape(it);
  const [data, token] = shape.type === 'tuple' ? shape.elements : [];
  const fits =
    shape.type === 'tuple' &&
    shape.elements.length === 2 &&
    data !== undefined &&
    isData(data) &&
    token?.type === 'token';
  expect(it, fits, `a result (data, token[]), not ${shapeText(shape)}`);
  return wellFormed(it, shape);
}

/** Receives the data of an infeed, and checks the shapes of the arrays. */
function received(shape: Shape, run: Run): Value {
  const data = shape.type === 'tuple' ? shape.elements[0] : undefined;
  assert(data !== undefined, 'an infeed gives data and a token');
  const arrays = run.receive();
  const expected = data.type === 'tuple' ? data.elements : [data];
  const found = arrays.map((array) => array.shape);
  if (!sameShape(tupleShape(expected), tupleShape(found))) {
    const texts = `expected ${shapeText(tupleShape(expected))}, found ${shapeText(tupleShape(found))}`;
    throw new PodError('bad-program', `infeed: ${texts}`);
  }
  return [data.type === 'tuple' ? arrays : at(arrays, 0), 'token'];
}
