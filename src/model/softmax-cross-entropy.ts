import { namer } from '../autodiff/name.ts';
import { arrayOf } from '../autodiff/rule.ts';
import {
  broadcast,
  compare,
  computation,
  convert,
  exp,
  full,
  iota,
  log,
  minimum,
  parameter,
  reduce,
  reduceMax,
  reduceSum,
  scalar,
  select,
  subtract,
} from '../hlo/build.ts';
import type { HloComputation, HloInstruction } from '../hlo/instruction.ts';
import { postOrder } from '../hlo/traverse.ts';
import { assert, at } from '../numerics/assert.ts';
import { arrayShape } from '../numerics/shape.ts';

/** Loss and counts of a batch. A sample with a negative label is ignored. */
export interface CrossEntropy {
  /** f32[]: sum of −log softmax(logits)[label] over the samples with a label ≥ 0. */
  readonly loss: HloInstruction;
  /**
   * f32[]: number of samples in which the class of the label has the largest logit. If several
   * classes have the largest logit, only the first of these classes counts.
   */
  readonly correct: HloInstruction;
  /** f32[]: number of samples with a label ≥ 0. */
  readonly samples: HloInstruction;
  /**
   * List of one instruction, which computes the largest logit of each sample. `gradient` must get
   * this list as its argument `held`, so that it treats the largest logits as constants. The
   * largest logit is subtracted from all logits of its sample, which does not change the loss. The
   * derivative of the loss with respect to the subtracted number is therefore 0 and need not be
   * computed.
   */
  readonly held: readonly HloInstruction[];
}

/**
 * Builds the softmax cross-entropy of a batch. `logits` is f32[batch, classes]. `labels` is
 * s32[batch]; the label −1 marks a sample to ignore.
 */
export function softmaxCrossEntropy(logits: HloInstruction, labels: HloInstruction): CrossEntropy {
  const dims = dimsOf(logits);
  assert(dims.length === 2, `logits [batch, classes], found [${dims.join()}]`);
  const name = namer(postOrder([logits, labels]));
  const named = (it: HloInstruction): HloInstruction => name(it, 'loss');
  const largest = named(reduceMax(logits, [1]));
  const real = named(compare('GE', labels, full('s32', dimsOf(labels), 0)));
  const classes = iota(arrayShape('s32', dims), 1);
  return {
    loss: named(sumWhere(real, negativeLogLikelihood(logits, labels, largest, classes))),
    correct: named(sumOf(compare('EQ', firstBest(logits, largest, classes), labels))),
    samples: named(sumOf(real)),
    held: [largest],
  };
}

/**
 * Returns −log softmax(logits)[label] for each sample. The formula is log Σ exp(z) − z[label]. The
 * vector z is the logits of the sample, each minus the sample's largest logit. No element of z is
 * above 0, so exp(z) cannot overflow.
 */
function negativeLogLikelihood(
  logits: HloInstruction,
  labels: HloInstruction,
  largest: HloInstruction,
  classes: HloInstruction,
): HloInstruction {
  const dims = dimsOf(logits);
  const shifted = subtract(logits, broadcast(largest, dims, [0]));
  const isLabel = compare('EQ', classes, broadcast(labels, dims, [0]));
  const ofLabel = reduceSum(select(isLabel, shifted, full('f32', dims, 0)), [1]);
  return subtract(log(reduceSum(exp(shifted), [1])), ofLabel);
}

/**
 * Returns, for each sample, the index of the first class with the largest logit: s32[batch]. If a
 * logit of the sample is NaN, the largest logit is NaN too, and no logit equals NaN. The result is
 * then the number of classes, which is not the label of any sample.
 */
function firstBest(
  logits: HloInstruction,
  largest: HloInstruction,
  classes: HloInstruction,
): HloInstruction {
  const dims = dimsOf(logits);
  const none = at(dims, 1);
  const isBest = compare('EQ', logits, broadcast(largest, dims, [0]));
  const candidates = select(isBest, classes, full('s32', dims, none));
  return reduce(candidates, scalar('s32', none), [1], minimumOfS32);
}

const minimumOfS32: HloComputation = smallest();

function smallest(): HloComputation {
  const scalarShape = arrayShape('s32', []);
  const [a, b] = [parameter(0, scalarShape), parameter(1, scalarShape)];
  return computation('min_s32', [a, b], minimum(a, b));
}

function sumWhere(counts: HloInstruction, x: HloInstruction): HloInstruction {
  return reduceSum(select(counts, x, full('f32', dimsOf(x), 0)), [0]);
}

function sumOf(predicate: HloInstruction): HloInstruction {
  return reduceSum(convert(predicate, 'f32'), [0]);
}

function dimsOf(it: HloInstruction): readonly number[] {
  return arrayOf(it).dims;
}
