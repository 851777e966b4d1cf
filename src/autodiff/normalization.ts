import {
  broadcast,
  computation,
  convert,
  full,
  getTupleElement,
  multiply,
  parameter,
  subtract,
} from '../hlo/build.ts';
import { call } from '../hlo/build-control.ts';
import { batchNormGrad, batchNormTraining, type Moments } from '../hlo/build-normalization.ts';
import { countPerFeature } from '../hlo/evaluate/batch-norm.ts';
import { expandedBatchNorm } from '../hlo/expand-batch-norm.ts';
import type { BatchNorm, BatchNormTraining, HloInstruction } from '../hlo/instruction.ts';
import { callRule } from './control.ts';
import { arrayOf, type Contribution, type Cotangents, operand, type Tools } from './rule.ts';

/**
 * Returns the cotangents of the operands of a batch norm in training. A `batch-norm-grad` computes
 * those that come from y. The others follow from the definitions: the mean of n elements grows by
 * 1/n when an element grows by 1, and the variance by 2 (x − mean) / n. All of it is in f32.
 */
export function batchNormTrainingRule(
  it: BatchNormTraining,
  [ct, meanCt, varianceCt]: Cotangents,
): Contribution[] {
  const wide = widened(it);
  const x = operand(wide, 0);
  const { dims } = arrayOf(x);
  const moments = { mean: getTupleElement(wide, 1), variance: getTupleElement(wide, 2) };
  const spread = (feature: HloInstruction, factor: number): HloInstruction => {
    const scaled = multiply(inF32(feature), full('f32', arrayOf(feature).dims, factor));
    return broadcast(scaled, dims, [it.featureIndex]);
  };
  const n = countPerFeature(dims, it.featureIndex);
  const toX = (cotangent: () => HloInstruction): Contribution => given(it, 0, cotangent);
  return [
    ...(ct === undefined ? [] : fromY(it, wide, moments, ct)),
    ...(meanCt === undefined ? [] : [toX(() => spread(meanCt, 1 / n))]),
    ...(varianceCt === undefined
      ? []
      : [toX(() => multiply(subtract(x, spread(moments.mean, 1)), spread(varianceCt, 2 / n)))]),
  ];
}

function fromY(
  it: BatchNormTraining,
  wide: BatchNormTraining,
  moments: Moments,
  ct: HloInstruction,
): Contribution[] {
  const grad = batchNormGrad(operand(wide, 0), operand(wide, 1), moments, inF32(ct), it);
  return it.operands.map((_, i) => given(it, i, () => getTupleElement(grad, i)));
}

/** Returns a contribution to operand `i`, converted to the type of the operand. */
function given(it: BatchNorm, i: number, cotangent: () => HloInstruction): Contribution {
  const to = operand(it, i);
  const { type } = arrayOf(to);
  return { to, cotangent: () => (type === 'f32' ? cotangent() : convert(cotangent(), type)) };
}

/** Returns the same batch norm in f32. */
function widened(it: BatchNormTraining): BatchNormTraining {
  const [x, scale, offset] = it.operands.map(inF32);
  return x === operand(it, 0) ? it : batchNormTraining(x!, scale!, offset!, it);
}

function inF32(x: HloInstruction): HloInstruction {
  return arrayOf(x).type === 'f32' ? x : convert(x, 'f32');
}

/** Returns the cotangents of the operands of a batch norm: those of the instructions in its place. */
export function batchNormRule(it: BatchNorm, cotangents: Cotangents, tools: Tools): Contribution[] {
  const parameters = it.operands.map(({ shape }, i) => parameter(i, shape));
  const body = computation(
    it.opcode,
    parameters,
    expandedBatchNorm({ ...it, operands: parameters }),
  );
  return callRule(call(body, it.operands), cotangents, tools);
}
