import { unreachable } from '../numerics/assert.ts';
import type { BatchNorm } from './instruction.ts';

/**
 * Operations on f32 arrays of two sizes: the size of the operand of a batch norm, and the size of
 * its features, [n]. The formulas of batch norms are written once, with these operations. `evaluate`
 * runs them on literals (evaluate/batch-norm.ts), and the compiler on instructions
 * (expand-batch-norm.ts). So both give the same bits.
 */
export interface BatchNormOps<V> {
  add(a: V, b: V): V;
  subtract(a: V, b: V): V;
  multiply(a: V, b: V): V;
  divide(a: V, b: V): V;
  rsqrt(x: V): V;
  /** Returns an array of the size of the features, filled with one value. */
  filled(value: number): V;
  /** Returns an array of the size of the operand: each element is the value of its feature. */
  spread(x: V): V;
  /** Returns, for each feature, 0 plus its elements one after another, in row-major order. */
  sum(x: V): V;
}

/** What a batch norm needs to know besides its operands. */
export interface BatchNormSizes {
  readonly epsilon: number;
  /** Number of elements of one feature. */
  readonly count: number;
}

/** Computes the results of a batch norm from its operands. All arrays are f32. */
export function batchNorm<V>(
  opcode: BatchNorm['opcode'],
  operands: readonly V[],
  sizes: BatchNormSizes,
  ops: BatchNormOps<V>,
): readonly V[] {
  switch (opcode) {
    case 'batch-norm-training':
      return training(operands as Three<V>, sizes, ops);
    case 'batch-norm-inference':
      return inference(operands as Five<V>, sizes, ops);
    case 'batch-norm-grad':
      return backward(operands as Five<V>, sizes, ops);
    default:
      return unreachable(opcode);
  }
}

type Three<V> = readonly [V, V, V];
type Five<V> = readonly [V, V, V, V, V];

/** Returns y, and the mean and the variance of each feature. */
function training<V>(
  [x, scale, offset]: Three<V>,
  { epsilon, count }: BatchNormSizes,
  ops: BatchNormOps<V>,
): readonly V[] {
  const n = ops.filled(count);
  const mean = ops.divide(ops.sum(x), n);
  const centered = ops.subtract(x, ops.spread(mean));
  const variance = ops.divide(ops.sum(ops.multiply(centered, centered)), n);
  const factor = ops.multiply(scale, inverseDeviation(variance, epsilon, ops));
  const y = ops.add(ops.multiply(centered, ops.spread(factor)), ops.spread(offset));
  return [y, mean, variance];
}

/** Returns y = (x − mean) · (scale / √(variance + epsilon)) + offset. */
function inference<V>(
  [x, scale, offset, mean, variance]: Five<V>,
  { epsilon }: BatchNormSizes,
  ops: BatchNormOps<V>,
): readonly V[] {
  const centered = ops.subtract(x, ops.spread(mean));
  const factor = ops.multiply(scale, inverseDeviation(variance, epsilon, ops));
  return [ops.add(ops.multiply(centered, ops.spread(factor)), ops.spread(offset))];
}

/**
 * Returns the cotangents of x, scale and offset of a training, where `ct` is the cotangent of y. The
 * cotangent of x is factor · (ct − Σct/n − centered · (Σ(ct · centered) · inverse² / n)), where
 * inverse is 1 / √(variance + epsilon) and factor is scale · inverse.
 */
function backward<V>(
  [x, scale, mean, variance, ct]: Five<V>,
  { epsilon, count }: BatchNormSizes,
  ops: BatchNormOps<V>,
): readonly V[] {
  const n = ops.filled(count);
  const inverse = inverseDeviation(variance, epsilon, ops);
  const centered = ops.subtract(x, ops.spread(mean));
  const offsetCt = ops.sum(ct);
  const scaleCt = ops.multiply(ops.sum(ops.multiply(ct, centered)), inverse);
  const shift = ops.spread(ops.divide(offsetCt, n));
  const slope = ops.spread(ops.divide(ops.multiply(scaleCt, inverse), n));
  const rest = ops.subtract(ops.subtract(ct, shift), ops.multiply(centered, slope));
  return [ops.multiply(ops.spread(ops.multiply(scale, inverse)), rest), scaleCt, offsetCt];
}

function inverseDeviation<V>(variance: V, epsilon: number, ops: BatchNormOps<V>): V {
  return ops.rsqrt(ops.add(variance, ops.filled(epsilon)));
}
