import { at } from '../../numerics/assert.ts';
import {
  type ArrayShape,
  arrayShape,
  type Shape,
  sameShape,
  shapeText,
  tupleShape,
} from '../../numerics/shape.ts';
import { batchNormOf } from '../evaluate/batch-norm.ts';
import { literalOf } from '../evaluate/value.ts';
import type { Draft, InstructionBase } from '../instruction.ts';
import { type Attribute, decimal, field, integer } from '../text/attribute.ts';
import { arrayOperand, expect, expectKind, expectOperands, isIndexBelow } from './check.ts';
import type { Definition, DefinitionsOf } from './definition.ts';

/** Batch norms: operations that normalize the features of an array, each feature on its own. */
export type BatchNorm = BatchNormTraining | BatchNormInference | BatchNormGrad;

/** Attributes of a batch norm. */
interface BatchNormFields {
  /** Number that is added to a variance before its square root is taken. */
  readonly epsilon: number;
  /** The dimension of the features. */
  readonly featureIndex: number;
}

/**
 * Normalizes each feature to the mean `offset` and the deviation `scale`. Operands: x, scale, offset.
 * Result: the tuple (y, mean, variance). The variance is Σ(x − mean)² / n. All arithmetic is in f32,
 * in the order of batch-norm.ts; the results are rounded to the element type at the end.
 */
export interface BatchNormTraining
  extends InstructionBase<'batch-norm-training', Shape>,
    BatchNormFields {}

/**
 * Normalizes each feature with a given mean and variance. Operands: x, scale, offset, mean, variance.
 * With the mean and the variance of a training in f32, the result has the bits of the training.
 */
export interface BatchNormInference
  extends InstructionBase<'batch-norm-inference'>,
    BatchNormFields {}

/**
 * The cotangents of x, scale and offset of a training. Operands: x, scale, mean, variance, and the
 * cotangent of y. Result: the tuple of the three cotangents.
 */
export interface BatchNormGrad extends InstructionBase<'batch-norm-grad', Shape>, BatchNormFields {}

const training: Definition<BatchNormTraining> = {
  family: 'normalization',
  attributes: batchNormAttributes<BatchNormTraining>(),
  infer: (it) => resultOf(it, checked(it, { perFeature: [1, 2], whole: [] })),
  evaluate: (it, operands) => batchNormOf(it, operands.map(literalOf)),
};

const inference: Definition<BatchNormInference> = {
  family: 'normalization',
  attributes: batchNormAttributes<BatchNormInference>(),
  infer: (it) => checked(it, { perFeature: [1, 2, 3, 4], whole: [] }),
  evaluate: (it, operands) => at(batchNormOf(it, operands.map(literalOf)), 0),
};

const grad: Definition<BatchNormGrad> = {
  family: 'normalization',
  attributes: batchNormAttributes<BatchNormGrad>(),
  infer: (it) => resultOf(it, checked(it, { perFeature: [1, 2, 3], whole: [4] })),
  evaluate: (it, operands) => batchNormOf(it, operands.map(literalOf)),
};

/** Definitions of {@link BatchNorm}. */
export const normalizationDefinitions: DefinitionsOf<BatchNorm> = {
  'batch-norm-training': training,
  'batch-norm-inference': inference,
  'batch-norm-grad': grad,
};

function batchNormAttributes<I extends BatchNorm>(): readonly Attribute<I>[] {
  return [
    field<I, 'epsilon'>('epsilon', 'epsilon', decimal),
    field<I, 'featureIndex'>('feature_index', 'featureIndex', integer),
  ];
}

/** Numbers of the operands that have the size of the features, and of those that have the size of x. */
interface Sizes {
  readonly perFeature: readonly number[];
  readonly whole: readonly number[];
}

/** Checks a batch norm and returns the shape of its first operand. */
function checked(it: Draft<BatchNorm>, { perFeature, whole }: Sizes): ArrayShape {
  expectOperands(it, 1 + perFeature.length + whole.length);
  const x = arrayOperand(it, 0);
  expectKind(it, 'float', x);
  const { epsilon, featureIndex } = it;
  const rank = x.dims.length;
  const isInside = isIndexBelow(featureIndex, rank);
  expect(it, isInside, `feature_index below ${rank}, not ${featureIndex}`);
  expect(it, epsilon >= 0, `epsilon of 0 or more, not ${epsilon}`);
  const feature = featureShape(x, featureIndex);
  for (const [operands, shape] of [
    [perFeature, feature],
    [whole, x],
  ] as const) {
    for (const i of operands) {
      expect(it, sameShape(arrayOperand(it, i), shape), `${shapeText(shape)} as operand ${i}`);
    }
  }
  return x;
}

function resultOf({ featureIndex }: Draft<BatchNorm>, x: ArrayShape): Shape {
  const feature = featureShape(x, featureIndex);
  return tupleShape([x, feature, feature]);
}

function featureShape({ type, dims }: ArrayShape, featureIndex: number): ArrayShape {
  return arrayShape(type, [at(dims, featureIndex)]);
}
