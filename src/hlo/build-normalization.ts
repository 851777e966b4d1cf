import { make } from './build.ts';
import type {
  BatchNormGrad,
  BatchNormInference,
  BatchNormTraining,
  HloInstruction,
} from './instruction.ts';

/* Builders of the operations that normalize the features of an array. */

/** Attributes of a batch norm: the dimension of the features, and a number added to variances. */
export type BatchNormOptions = Pick<BatchNormTraining, 'epsilon' | 'featureIndex'>;

/**
 * Normalizes each feature of x to the mean `offset` and the deviation `scale`. The result is the
 * tuple (y, mean, variance).
 */
export function batchNormTraining(
  x: HloInstruction,
  scale: HloInstruction,
  offset: HloInstruction,
  { epsilon, featureIndex }: BatchNormOptions,
): BatchNormTraining {
  const operands = [x, scale, offset];
  return make<BatchNormTraining>({
    opcode: 'batch-norm-training',
    operands,
    epsilon,
    featureIndex,
  });
}

/** Normalizes each feature of x with a given mean and variance. */
export function batchNormInference(
  x: HloInstruction,
  affine: { readonly scale: HloInstruction; readonly offset: HloInstruction },
  { mean, variance }: Moments,
  { epsilon, featureIndex }: BatchNormOptions,
): BatchNormInference {
  const operands = [x, affine.scale, affine.offset, mean, variance];
  const opcode = 'batch-norm-inference';
  return make<BatchNormInference>({ opcode, operands, epsilon, featureIndex });
}

/**
 * The cotangents of x, scale and offset of a training, as a tuple. `ct` is the cotangent of y; the
 * mean and the variance are those that the training returns.
 */
export function batchNormGrad(
  x: HloInstruction,
  scale: HloInstruction,
  { mean, variance }: Moments,
  ct: HloInstruction,
  { epsilon, featureIndex }: BatchNormOptions,
): BatchNormGrad {
  const operands = [x, scale, mean, variance, ct];
  return make<BatchNormGrad>({ opcode: 'batch-norm-grad', operands, epsilon, featureIndex });
}

/** Mean and variance of each feature. */
export interface Moments {
  readonly mean: HloInstruction;
  readonly variance: HloInstruction;
}
