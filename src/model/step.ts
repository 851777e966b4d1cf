import { gradient } from '../autodiff/gradient.ts';
import { type Namer, namer } from '../autodiff/name.ts';
import {
  add,
  afterAll,
  allReduce,
  divide,
  getTupleElement,
  infeed,
  module,
  named,
  outfeed,
  parameter,
  scalar,
  tuple,
} from '../hlo/build.ts';
import type { HloInstruction, HloModule, Parameter, Precision } from '../hlo/instruction.ts';
import { postOrder } from '../hlo/traverse.ts';
import { at } from '../numerics/assert.ts';
import { PodError } from '../numerics/error.ts';
import type { NamedLiteral } from '../numerics/literal.ts';
import { type ArrayShape, arrayShape } from '../numerics/shape.ts';
import type { Optimizer } from '../optimizer/optimizer.ts';
import type { Layer } from './layer.ts';
import { type CrossEntropy, softmaxCrossEntropy } from './softmax-cross-entropy.ts';

/** Options that all programs of a network share. */
export interface NetworkOptions {
  /** The network, a layer that computes logits from images. */
  readonly network: Layer;
  /** Size of an image: [rows, columns, channels]. */
  readonly inputDims: readonly number[];
  readonly seed: number;
  /**
   * Number of examples in a step, over all replicas. If the number is not a multiple of `replicas`,
   * building a program throws `bad-config`.
   */
  readonly globalBatch: number;
  readonly replicas: number;
  /**
   * Precision of matmuls and convolutions. `default` rounds the operands to bf16; `highest` keeps
   * f32.
   */
  readonly precision: Precision;
}

export interface TrainOptions extends NetworkOptions {
  readonly optimizer: Optimizer;
}

/** A program that every replica runs in each step, with the initial values of its parameters. */
export interface StepProgram {
  /**
   * HLO of the program. Through its infeed, each replica receives images f32[b, …inputDims] and
   * labels s32[b], where b = globalBatch / replicas. The label −1 marks a sample to ignore.
   *
   * The root is a tuple. If the program has an outfeed, the last element of the tuple is the token
   * that the outfeed returns. A token holds no data, but without it the root would not depend on
   * the outfeed, and the outfeed would not be part of the program.
   */
  readonly module: HloModule;
  /**
   * Initial value of each parameter of `module`: first the weights, then the state of the
   * optimizer. Only a training step has state of the optimizer.
   */
  readonly parameters: readonly NamedLiteral[];
  /** How many of the parameters are weights; the others are state of the optimizer. */
  readonly weights: number;
  /** Shapes of the arrays of the infeed. */
  readonly infeed: readonly ArrayShape[];
  /**
   * Names of the scalars (f32[]) that the program sends to the host. All replicas send equal
   * values.
   */
  readonly outfeed: readonly string[];
}

/**
 * Scalars that a training step sends to the host: mean loss over the global batch, how many answers
 * in the global batch are correct, and learning rate of the update.
 */
export const trainOutfeed = ['loss', 'correct', 'learningRate'] as const;
/**
 * Scalars that an evaluation step sends to the host: how many answers are correct, the sum of
 * losses, and how many samples there are. Samples with the label −1 are ignored in all three.
 */
export const evaluateOutfeed = ['correct', 'loss', 'samples'] as const;

/**
 * Builds the program of a synchronous training step. An all-reduce sums three things over all
 * replicas: gradients, loss, and how many answers are correct. The loss is the mean over the global
 * batch, and the gradients are the derivatives of this mean.
 *
 * The root has the new weights, the new state of the optimizer, and the token of the outfeed. The
 * new weights and the new state replace the old ones in place. {@link trainOutfeed} names the
 * scalars of the outfeed.
 */
export function trainStep(options: TrainOptions): StepProgram {
  const { optimizer } = options;
  const start = begin('train', options, (weights) => optimizer.init(weights));
  const { weights, state } = start;
  const { loss, correct, gradients, name } = reducedGradients(options, start);

  const update = optimizer.update(gradients, state, weights);
  const learningRate = name(update.learningRate ?? scalar('f32', 1), 'update/learning-rate');
  const newState = update.state.map((it, i) => name(it, `update/${at(state, i).name}`));
  const newWeights = weights.map((weight, i) =>
    name(add(weight, at(update.updates, i)), `update/${weight.name}`),
  );

  const token = sent([loss, correct, learningRate], start.token);
  return program(start, [...newWeights, ...newState, token], trainOutfeed, true);
}

/**
 * Builds the program of an evaluation step: only the forward pass, which does not change the
 * weights. The root has the token of the outfeed. {@link evaluateOutfeed} names the scalars of the
 * outfeed.
 */
export function evaluateStep(options: NetworkOptions): StepProgram {
  const start = begin('evaluate', options);
  const { loss, correct, samples } = crossEntropy(options, start);
  const total = (it: HloInstruction, name: string): HloInstruction =>
    named(allReduce(it), `all-reduce/${name}`);
  const sums = [total(correct, 'correct'), total(loss, 'loss'), total(samples, 'samples')];
  return program(start, [sent(sums, start.token)], evaluateOutfeed, false);
}

/**
 * Builds the program of a {@link trainStep} without the update. The root has the gradient of each
 * weight, then the loss. There is no outfeed.
 */
export function gradientStep(options: NetworkOptions): StepProgram {
  const start = begin('gradient', options);
  const { loss, gradients } = reducedGradients(options, start);
  return program(start, [...gradients, loss], [], false);
}

/** Inputs of a program as HLO instructions, and the initial values of its parameters. */
interface Start {
  readonly title: string;
  readonly initial: readonly NamedLiteral[];
  readonly weights: readonly Parameter[];
  readonly state: readonly Parameter[];
  readonly infeed: readonly ArrayShape[];
  readonly images: HloInstruction;
  readonly labels: HloInstruction;
  readonly token: HloInstruction;
}

function begin(
  title: string,
  options: NetworkOptions,
  stateOf: (weights: readonly NamedLiteral[]) => readonly NamedLiteral[] = () => [],
): Start {
  const weights = options.network.init(options.inputDims, options.seed).parameters;
  const initial = [...weights, ...stateOf(weights)];
  const parameters = initial.map(({ name, value }, i) => parameter(i, value.shape, name));
  const batch = replicaBatch(options);
  const shapes = [arrayShape('f32', [batch, ...options.inputDims]), arrayShape('s32', [batch])];
  const fed = named(infeed(afterAll(), { type: 'tuple', elements: shapes }), 'infeed');
  const data = getTupleElement(fed, 0);
  return {
    title,
    initial,
    weights: parameters.slice(0, weights.length),
    state: parameters.slice(weights.length),
    infeed: shapes,
    images: named(getTupleElement(data, 0), 'images'),
    labels: named(getTupleElement(data, 1), 'labels'),
    token: getTupleElement(fed, 1),
  };
}

function replicaBatch({ globalBatch, replicas }: NetworkOptions): number {
  const batch = globalBatch / replicas;
  if (Number.isInteger(batch) && batch > 0) return batch;
  throw new PodError(
    'bad-config',
    `global batch ${globalBatch}: expected a multiple of the ${replicas} replicas`,
  );
}

function crossEntropy(
  { network, precision }: NetworkOptions,
  { weights, images, labels }: Start,
): CrossEntropy {
  return softmaxCrossEntropy(network.apply(weights, images, precision), labels);
}

interface Reduced {
  readonly loss: HloInstruction;
  readonly correct: HloInstruction;
  readonly gradients: readonly HloInstruction[];
  /**
   * Function that names new instructions (those of the update). It does not change the names of the
   * instructions of the forward and backward pass.
   */
  readonly name: Namer;
}

/**
 * Builds the forward and backward pass, and the all-reduces over the replicas. Returns the
 * gradients of the mean loss over the global batch, the mean loss itself, and how many answers in
 * the global batch are correct.
 */
function reducedGradients(options: NetworkOptions, start: Start): Reduced {
  const own = crossEntropy(options, start);
  const share = named(divide(own.loss, scalar('f32', options.globalBatch)), 'loss');
  const gradients = gradient(share, start.weights, own.held).map((it, i) =>
    named(allReduce(it), `all-reduce/${at(start.weights, i).name}`),
  );
  const loss = named(allReduce(share), 'all-reduce/loss');
  const correct = named(allReduce(own.correct), 'all-reduce/correct');
  const inputs = [...start.weights, ...start.state];
  const name = namer(postOrder([...inputs, ...gradients, loss, correct]));
  return { loss, correct, gradients, name };
}

function sent(values: readonly HloInstruction[], token: HloInstruction): HloInstruction {
  return named(outfeed(tuple(values), token), 'outfeed');
}

/**
 * Builds a program from its inputs and the elements of its root tuple. If `inPlace` is true,
 * element i of the root becomes the value of parameter i after a step; otherwise the parameters
 * keep their values.
 */
function program(
  start: Start,
  root: readonly HloInstruction[],
  outfeed: readonly string[],
  inPlace: boolean,
): StepProgram {
  const parameters = [...start.weights, ...start.state];
  const aliases = inPlace ? parameters.map((_, i) => ({ output: i, parameter: i })) : [];
  return {
    module: module(start.title, parameters, tuple(root), aliases),
    parameters: start.initial,
    weights: start.weights.length,
    infeed: start.infeed,
    outfeed,
  };
}
