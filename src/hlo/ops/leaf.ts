import { at } from '../../numerics/assert.ts';
import type { Literal } from '../../numerics/literal.ts';
import type { Shape } from '../../numerics/shape.ts';
import type { InstructionBase } from '../instruction.ts';
import { literalText, readLiteral } from '../text/literal.ts';
import { readInteger } from '../text/read.ts';
import { checkedShape, expect, expectOperands, givenShape, isIndex, wellFormed } from './check.ts';
import type { Definition, DefinitionsOf } from './definition.ts';

/** Values from outside of the computation. */
export type Leaf = Parameter | Constant;

/** The parameter with index `index` of a computation. Indices count from 0. No operands. */
export interface Parameter extends InstructionBase<'parameter', Shape> {
  readonly index: number;
}

/** An array whose value is part of the program. No operands. */
export interface Constant extends InstructionBase<'constant'> {
  readonly value: Literal;
}

const parameter: Definition<Parameter> = {
  family: 'leaf',
  content: {
    write: ({ index }) => String(index),
    read: (scanner) => ({ index: readInteger(scanner) }),
  },
  infer: (it) => {
    expectOperands(it, 0);
    expect(it, isIndex(it.index), 'an index of 0 or more');
    return wellFormed(it, givenShape(it));
  },
  evaluate: ({ index }, _, { parameters }) => at(parameters, index),
};

const constant: Definition<Constant> = {
  family: 'leaf',
  content: {
    write: ({ value }, elementsMax) => literalText(value, elementsMax),
    read: (scanner, shape) => ({ value: readLiteral(scanner, shape) }),
  },
  infer: (it) => {
    expectOperands(it, 0);
    return checkedShape(it, it.value.shape);
  },
  evaluate: ({ value }) => value,
};

/** Definitions of {@link Leaf}. */
export const leafDefinitions: DefinitionsOf<Leaf> = { parameter, constant };
