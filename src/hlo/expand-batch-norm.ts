import { assert, at } from '../numerics/assert.ts';
import { isArray, otherDimensions } from '../numerics/shape.ts';
import { type BatchNormOps, batchNorm } from './batch-norm.ts';
import {
  add,
  broadcast,
  convert,
  divide,
  full,
  multiply,
  reduceSum,
  rsqrt,
  subtract,
  tuple,
} from './build.ts';
import { countPerFeature } from './evaluate/batch-norm.ts';
import type { BatchNorm, HloInstruction } from './instruction.ts';

/**
 * Returns instructions that compute a batch norm with sums, products and so on. The result has the
 * shape of `it` and the same bits.
 */
export function expandedBatchNorm(it: BatchNorm): HloInstruction {
  const { epsilon, featureIndex, opcode, operands } = it;
  const { shape } = at(operands, 0);
  assert(isArray(shape), 'the first operand of a batch norm is an array');
  const { type, dims } = shape;
  const ops = instructionOps(dims, featureIndex);
  const sizes = { epsilon, count: countPerFeature(dims, featureIndex) };
  const wide = type === 'f32' ? operands : operands.map((x) => convert(x, 'f32'));
  const results = batchNorm(opcode, wide, sizes, ops);
  const rounded = type === 'f32' ? results : results.map((x) => convert(x, type));
  return isArray(it.shape) ? at(rounded, 0) : tuple(rounded);
}

function instructionOps(
  dims: readonly number[],
  featureIndex: number,
): BatchNormOps<HloInstruction> {
  const features = [at(dims, featureIndex)];
  return {
    ...{ add, subtract, multiply, divide, rsqrt },
    filled: (value) => full('f32', features, value),
    spread: (x) => broadcast(x, dims, [featureIndex]),
    sum: (x) => reduceSum(x, otherDimensions(dims.length, [featureIndex])),
  };
}
