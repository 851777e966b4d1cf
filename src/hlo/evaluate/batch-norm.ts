import { at } from '../../numerics/assert.ts';
import { onNumber } from '../../numerics/f32-ops.ts';
import { type Literal, literalFrom, scalarAt, valuesOf } from '../../numerics/literal.ts';
import { type ArrayShape, arrayShape, product, stridesOf } from '../../numerics/shape.ts';
import * as lanes from '../../numerics/transcendental.ts';
import { type BatchNormOps, batchNorm } from '../batch-norm.ts';
import type { BatchNorm } from '../instruction.ts';
import { mapped } from './mapped.ts';

/** Evaluates a batch norm, in f32. The results are rounded to the element type at the end. */
export function batchNormOf(it: BatchNorm, operands: readonly Literal[]): readonly Literal[] {
  const { type, dims } = at(operands, 0).shape;
  const features = at(dims, it.featureIndex);
  const count = countPerFeature(dims, it.featureIndex);
  const wide = operands.map((x) => converted(x, 'f32'));
  const ops = literalOps(arrayShape('f32', dims), it.featureIndex, features);
  const results = batchNorm(it.opcode, wide, { epsilon: it.epsilon, count }, ops);
  return results.map((x) => converted(x, type));
}

/** Returns the product of all dimensions except that of the features. */
export function countPerFeature(dims: readonly number[], featureIndex: number): number {
  return product(dims.toSpliced(featureIndex, 1));
}

function literalOps(whole: ArrayShape, featureIndex: number, features: number): Ops {
  const perFeature = arrayShape('f32', [features]);
  const stride = at(stridesOf(whole.dims), featureIndex);
  const featureOf = (flat: number): number => Math.floor(flat / stride) % features;
  return {
    add: (a, b) => mapped(a.shape, [a, b], (x, y) => Number(x) + Number(y)),
    subtract: (a, b) => mapped(a.shape, [a, b], (x, y) => Number(x) - Number(y)),
    multiply: (a, b) => mapped(a.shape, [a, b], (x, y) => Number(x) * Number(y)),
    divide: (a, b) => mapped(a.shape, [a, b], (x, y) => Number(x) / Number(y)),
    rsqrt: (a) => mapped(a.shape, [a], (x) => rsqrt(Number(x))),
    filled: (value) => literalFrom(perFeature, () => value),
    spread: (x) => literalFrom(whole, (flat) => scalarAt(x, featureOf(flat))),
    sum: (x) => {
      const sums = new Float32Array(features);
      valuesOf(x).forEach((value, flat) => {
        sums[featureOf(flat)]! += value;
      });
      return { shape: perFeature, data: sums };
    },
  };
}

type Ops = BatchNormOps<Literal>;

const rsqrt = onNumber(lanes.rsqrt);

function converted(x: Literal, type: ArrayShape['type']): Literal {
  if (x.shape.type === type) return x;
  return literalFrom(arrayShape(type, x.shape.dims), (i) => scalarAt(x, i));
}
