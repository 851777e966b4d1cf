import { elementTypes } from '../../numerics/element-type.ts';
import { arrayShape, type Shape, sameDims, sameShape, shapeText } from '../../numerics/shape.ts';
import { comparison, conversion } from '../evaluate/elementwise.ts';
import { mapped } from '../evaluate/mapped.ts';
import { bitcastOf, selectOf } from '../evaluate/rearranging.ts';
import { literalOf } from '../evaluate/value.ts';
import type { Draft, InstructionBase } from '../instruction.ts';
import { field, word } from '../text/attribute.ts';
import {
  arrayOperand,
  equalOperands,
  expect,
  expectKind,
  expectOperands,
  statedArray,
} from './check.ts';
import type { Definition, DefinitionsOf } from './definition.ts';

/** Element-wise operations with rules of their own. */
export type Elementwise = Compare | Select | Clamp | Convert;

/** An element-wise comparison. Operands: a, b. The result is pred. */
export interface Compare extends InstructionBase<'compare'> {
  readonly direction: 'EQ' | 'NE' | 'LT' | 'LE' | 'GT' | 'GE';
}

/**
 * An element-wise choice between two arrays. Operands: the predicate, the array for true, the array
 * for false. All three have the same dimensions.
 */
export interface Select extends InstructionBase<'select'> {}

/**
 * Limits a value to a range. Operands: minimum, value, maximum. Minimum and maximum are scalars or
 * have the shape of the value.
 */
export interface Clamp extends InstructionBase<'clamp'> {}

/** A change of element type. Operand: x. `convert` keeps the values, `bitcast-convert` the bits. */
export interface Convert extends InstructionBase<'convert' | 'bitcast-convert'> {}

const directions = ['EQ', 'NE', 'LT', 'LE', 'GT', 'GE'] as const;

const compare: Definition<Compare> = {
  family: 'elementwise',
  attributes: [field('direction', 'direction', word(directions))],
  infer: (it) => arrayShape('pred', equalOperands(it)[0].dims),
  evaluate: ({ shape, direction }, [a, b]) =>
    mapped(shape, [literalOf(a!), literalOf(b!)], comparison(direction)),
  element: ({ direction }) => comparison(direction),
};

const select: Definition<Select> = {
  family: 'elementwise',
  infer: selectShape,
  evaluate: ({ shape }, [predicate, onTrue, onFalse]) =>
    selectOf(shape, literalOf(predicate!), literalOf(onTrue!), literalOf(onFalse!)),
};

const clamp: Definition<Clamp> = {
  family: 'elementwise',
  infer: clampShape,
  evaluate: ({ shape }, operands) =>
    mapped(shape, operands.map(literalOf), (low, x, high) => Math.min(Math.max(low, x), high)),
};

const convert: Definition<Convert> = {
  family: 'elementwise',
  infer: convertShape,
  evaluate: ({ shape }, [x]) => {
    const value = literalOf(x!);
    return mapped(shape, [value], conversion(value.shape.type, shape.type));
  },
};

const bitcastConvert: Definition<Convert> = {
  family: 'elementwise',
  infer: convertShape,
  evaluate: ({ shape }, [x]) => bitcastOf(shape, literalOf(x!)),
};

/** Definitions of {@link Elementwise}. */
export const elementwiseDefinitions: DefinitionsOf<Elementwise> = {
  compare,
  select,
  clamp,
  convert,
  'bitcast-convert': bitcastConvert,
};

function selectShape(it: Draft<Select>): Shape {
  expectOperands(it, 3);
  const predicate = arrayOperand(it, 0);
  const onTrue = arrayOperand(it, 1);
  expect(it, predicate.type === 'pred', 'a pred first');
  expect(it, sameDims(predicate.dims, onTrue.dims), 'a predicate of the size of the values');
  expect(it, sameShape(onTrue, arrayOperand(it, 2)), 'values of one shape');
  return onTrue;
}

function clampShape(it: Draft<Clamp>): Shape {
  expectOperands(it, 3);
  const value = arrayOperand(it, 1);
  expectKind(it, 'number', value);
  for (const bound of [arrayOperand(it, 0), arrayOperand(it, 2)]) {
    const fits = bound.dims.length === 0 || sameDims(bound.dims, value.dims);
    expect(
      it,
      bound.type === value.type && fits,
      "bounds that are scalars or of the value's shape",
    );
  }
  return value;
}

function convertShape(it: Draft<Convert>): Shape {
  expectOperands(it, 1);
  const operand = arrayOperand(it, 0);
  const shape = statedArray(it);
  expect(it, sameDims(operand.dims, shape.dims), `the size of ${shapeText(shape)}`);
  if (it.opcode === 'bitcast-convert') {
    const same = elementTypes[operand.type].bits === elementTypes[shape.type].bits;
    expect(it, same, `elements as wide as ${shape.type}`);
  }
  return shape;
}
