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
  /** The layer that maps images to logits. */
  readonly network: Layer;
  /** Size of an image: [rows, columns, channels]. */
  readonly inputDims: readonly number[];
  readonly seed: number;
  /** Examples in a step over all replicas; must be a multiple of `replicas` (`bad-config`). */
  readonly globalBatch: number;
  readonly replicas: number;
  /** Precision of matmuls and convolutions: `default` multiplies in bf16, `highest` in f32. */
  readonly precision: Precision;
}

export interface TrainOptions extends NetworkOptions {
  readonly optimizer: Optimizer;
}

/** A program for one replica, with its initial parameters. */
export interface StepProgram {
  /**
   * The infeed has images f32[b, …inputDims] and labels s32[b], where b = globalBatch / replicas; a
   * sample with label −1 does not count. The root is a tuple. If there is an outfeed, its token is
   * the last element of the root; a token holds no data.
   */
  readonly module: HloModule;
  /** Initial values by parameter number: weights, then (in training) the optimizer's state. */
  readonly parameters: readonly NamedLiteral[];
  /** Number of the parameters that are weights. */
  readonly weights: number;
  /** Shapes of the arrays of the infeed. */
  readonly infeed: readonly ArrayShape[];
  /** Names of the outfeed's scalars (f32[]), whose values are equal on all replicas. */
  readonly outfeed: readonly string[];
}

/**
 * Outfeed of a training step: mean loss over the global batch, number of right answers in the
 * batch, and learning rate of the step's update.
 */
export const trainOutfeed = ['loss', 'correct', 'learningRate'] as const;
/**
 * Outfeed of an evaluation step: number of right answers and sum of losses over the samples that
 * count, and the number of these samples.
 */
export const evaluateOutfeed = ['correct', 'loss', 'samples'] as const;

/**
 * The program of one synchronous training step. Root: new weights and new optimizer state, each in
 * place of its parameter, then the token. Outfeed: {@link trainOutfeed}. Gradients are those of the
 * mean loss over the global batch. An all-reduce sums gradients, loss and right answers over all
 * replicas.
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
 * The program of an evaluation step: the forward pass alone, which leaves weights unchanged. Root:
 * the token. Outfeed: {@link evaluateOutfeed}.
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
 * The program of a {@link trainStep} without the update. Root: the gradient of each weight, then
 * the loss. There is no outfeed.
 */
export function gradientStep(options: NetworkOptions): StepProgram {
  const start = begin('gradient', options);
  const { loss, gradients } = reducedGradients(options, start);
  return program(start, [...gradients, loss], [], false);
}

/** Inputs of a program as HLO, with the initial values of its parameters. */
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
  /** A namer that has seen all instructions of the forward and backward pass. */
  readonly name: Namer;
}

/** Builds forward and backward pass: gradients of the mean loss, summed over replicas. */
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

/** Builds the module. If `inPlace` is true, root element i takes the place of parameter i. */
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
