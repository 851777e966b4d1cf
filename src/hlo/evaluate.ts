import { assert, at, unreachable } from '../numerics/assert.ts';
import { PodError } from '../numerics/error.ts';
import { type Literal, literal, storage, valueAt } from '../numerics/literal.ts';
import { philoxInto } from '../numerics/random.ts';
import {
  type ArrayShape,
  arrayShape,
  elementCount,
  isArray,
  type Shape,
  sameShape,
  shapeText,
} from '../numerics/shape.ts';
import {
  bitcastOf,
  broadcastOf,
  concatenateOf,
  iotaOf,
  padOf,
  reshapeOf,
  reverseOf,
  selectOf,
  sliceOf,
  transposeOf,
} from './evaluate/arrange.ts';
import { convolutionOf, dotOf } from './evaluate/contraction.ts';
import { binaryElement, comparison, conversion, unaryElement } from './evaluate/elementwise.ts';
import {
  reduceOf,
  reduceWindowOf,
  type ScalarBody,
  selectAndScatterOf,
} from './evaluate/reduce.ts';
import { flattened, literalFrom, literalOf, type Value } from './evaluate/value.ts';
import type { HloComputation, HloInstruction, HloModule } from './instruction.ts';
import { postOrder } from './traverse.ts';

export type { Value } from './evaluate/value.ts';

/**
 * Inputs of one replica. `infeed` has one entry for each infeed instruction, in the order in which
 * these instructions run. The entry has the arrays that the instruction receives.
 */
export interface EvaluateInputs {
  readonly parameters: readonly Literal[];
  readonly infeed?: readonly (readonly Literal[])[];
}

/** Results of one replica. */
export interface EvaluateResult {
  readonly root: Value;
  /** All arrays of `root`, with nested tuples flattened depth first. */
  readonly values: readonly Literal[];
  /**
   * The data that the replica sent: one entry for each outfeed instruction, in the order in which
   * these instructions ran. The entry has the arrays that the instruction sent.
   */
  readonly outfeed: readonly (readonly Literal[])[];
}

/**
 * Computes the result of an all-reduce, which every replica receives. `values` has one array for
 * each replica, in the order of the replicas. The caller of `evaluateReplicas` may pass such a
 * function. Otherwise, the arrays are folded with `body`, from the first replica to the last.
 */
export type AllReduceFunction = (values: readonly Literal[], body: HloComputation) => Literal;

/**
 * Runs a module on one replica. Computes each instruction by its definition, which is slow. The
 * result is the reference for the compiler and for the emulated hardware. Throws `bad-program` if
 * the inputs do not fit the program.
 */
export function evaluate(module: HloModule, inputs: EvaluateInputs): EvaluateResult {
  return at(evaluateReplicas(module, [inputs]), 0);
}

/**
 * Runs a module on several replicas in lockstep, so that an all-reduce can combine their values.
 */
export function evaluateReplicas(
  module: HloModule,
  replicas: readonly EvaluateInputs[],
  options: { readonly allReduce?: AllReduceFunction } = {},
): EvaluateResult[] {
  const { entry } = module;
  const runs = replicas.map((inputs) => startRun(entry, inputs));
  const combine = options.allReduce ?? foldInOrder;
  for (const it of postOrder(entry.root)) {
    const operands = runs.map((run) => it.operands.map((operand) => run.values.get(operand)!));
    const results =
      it.opcode === 'all-reduce'
        ? allReduced(operands, it.body, combine)
        : runs.map((run, r) => resultOf(it, at(operands, r), run));
    runs.forEach((run, r) => {
      run.values.set(it, at(results, r));
    });
  }
  return runs.map(({ values, outfeed }) => {
    const root = values.get(entry.root)!;
    return { root, values: flattened(root), outfeed };
  });
}

/** Runs a computation that contains no infeed, no outfeed and no all-reduce. */
export function evaluateComputation(computation: HloComputation, args: readonly Value[]): Value {
  const run: Run = { parameters: args, infeed: [], outfeed: [], values: new Map() };
  for (const it of postOrder(computation.root)) {
    const operands = it.operands.map((operand) => run.values.get(operand)!);
    run.values.set(it, resultOf(it, operands, run));
  }
  return run.values.get(computation.root)!;
}

/** State of one replica during a run. */
interface Run {
  readonly parameters: readonly Value[];
  /** The entries of `EvaluateInputs.infeed` that the infeed instructions have still to receive. */
  readonly infeed: (readonly Literal[])[];
  readonly outfeed: (readonly Literal[])[];
  readonly values: Map<HloInstruction, Value>;
}

function startRun(entry: HloComputation, inputs: EvaluateInputs): Run {
  const expected = entry.parameters.map(({ shape }) => shape);
  const found = inputs.parameters.map(({ shape }) => shape);
  const list = (shapes: readonly Shape[]): Shape => ({ type: 'tuple', elements: shapes });
  if (!sameShape(list(expected), list(found))) {
    const texts = `expected ${shapeText(list(expected))}, found ${shapeText(list(found))}`;
    throw new PodError('bad-program', `parameters of ${entry.name}: ${texts}`);
  }
  const infeed = [...(inputs.infeed ?? [])];
  return { parameters: inputs.parameters, infeed, outfeed: [], values: new Map() };
}

function resultOf(it: HloInstruction, operands: readonly Value[], run: Run): Value {
  const array = (i: number): Literal => literalOf(at(operands, i));
  switch (it.opcode) {
    case 'parameter':
      return at(run.parameters, it.index);
    case 'constant':
      return it.value;
    case 'iota':
      return iotaOf(it.shape, it.dimension);
    case 'abs':
    case 'ceil':
    case 'cosine':
    case 'exponential':
    case 'exponential-minus-one':
    case 'floor':
    case 'is-finite':
    case 'log':
    case 'log-plus-one':
    case 'logistic':
    case 'negate':
    case 'not':
    case 'round-nearest-even':
    case 'rsqrt':
    case 'sign':
    case 'sine':
    case 'sqrt':
    case 'tanh':
      return mapped(it.shape, [array(0)], unaryElement(it.opcode, array(0).shape.type));
    case 'add':
    case 'subtract':
    case 'multiply':
    case 'divide':
    case 'maximum':
    case 'minimum':
    case 'power':
    case 'remainder':
    case 'and':
    case 'or':
    case 'xor':
    case 'shift-left':
    case 'shift-right-arithmetic':
    case 'shift-right-logical':
      return mapped(it.shape, [array(0), array(1)], binaryElement(it.opcode, it.shape.type));
    case 'compare':
      return mapped(it.shape, [array(0), array(1)], comparison(it.direction));
    case 'select':
      return selectOf(it.shape, array(0), array(1), array(2));
    case 'clamp':
      return mapped(it.shape, [array(0), array(1), array(2)], (low, x, high) =>
        Math.min(Math.max(low, x!), high!),
      );
    case 'convert':
      return mapped(it.shape, [array(0)], conversion(array(0).shape.type, it.shape.type));
    case 'bitcast-convert':
      return bitcastOf(it.shape, array(0));
    case 'broadcast':
      return broadcastOf(it, array(0));
    case 'reshape':
      return reshapeOf(it.shape, array(0));
    case 'transpose':
      return transposeOf(it, array(0));
    case 'slice':
      return sliceOf(it, array(0));
    case 'pad':
      return padOf(it, array(0), array(1));
    case 'concatenate':
      return concatenateOf(it, operands.map(literalOf));
    case 'reverse':
      return reverseOf(it, array(0));
    case 'dot':
      return dotOf(it, array(0), array(1));
    case 'convolution':
      return convolutionOf(it, array(0), array(1));
    case 'reduce': {
      const results = reduceOf(it, operands.map(literalOf), scalarBody(it.body));
      return results.length === 1 ? at(results, 0) : results;
    }
    case 'reduce-window':
      return reduceWindowOf(it, array(0), array(1), scalarBody(it.body));
    case 'select-and-scatter': {
      const arrays = [array(0), array(1), array(2)] as const;
      return selectAndScatterOf(it, arrays, scalarBody(it.select), scalarBody(it.scatter));
    }
    case 'rng-bit-generator':
      return randomBits(it.shape, array(0));
    case 'all-reduce':
      return assert(false, 'an all-reduce stands in the entry computation') as never;
    case 'after-all':
      return 'token';
    case 'infeed':
      return takeInfeed(it.shape, run);
    case 'outfeed':
      run.outfeed.push(flattened(at(operands, 0)));
      return 'token';
    case 'tuple':
      return operands;
    case 'get-tuple-element':
      return element(at(operands, 0), it.index);
    case 'fusion':
      return evaluateComputation(it.body, operands);
    default:
      return unreachable(it);
  }
}

/**
 * Applies a function to the elements of one to three operands, element by element. If an operand
 * has a single element, this element is used at every position.
 */
function mapped(
  shape: ArrayShape,
  operands: readonly Literal[],
  element: (x: number, y: number, z: number) => number,
): Literal {
  const [a, b, c] = operands.map((operand) => {
    const spread = operand.data.length === 1 ? 0 : 1;
    return (i: number): number => valueAt(operand, i * spread);
  });
  const none = (): number => 0;
  const second = b ?? none;
  const third = c ?? none;
  return literalFrom(shape, (i) => element(a!(i), second(i), third(i)));
}

/**
 * Turns a computation on scalars into a function of numbers. Usually, the function evaluates the
 * computation. If the computation is only one common operation, such as `add` or `compare`, returns
 * the JavaScript function of this operation, which is faster.
 */
function scalarBody(body: HloComputation): ScalarBody {
  const { root, parameters } = body;
  const [first, second] = root.operands;
  if (parameters.length === 2 && first === parameters[0] && second === parameters[1]) {
    const direct = directBody(root);
    if (direct !== undefined) return (a, b) => [direct(a!, b!)];
  }
  return (...values) => {
    const args = parameters.map(({ shape }, i) => {
      assert(isArray(shape), `${body.name} takes scalars`);
      return literal(shape.type, [], [at(values, i)]);
    });
    return flattened(evaluateComputation(body, args)).map((value) => valueAt(value, 0));
  };
}

function directBody(root: HloInstruction): ((a: number, b: number) => number) | undefined {
  switch (root.opcode) {
    case 'add':
    case 'multiply':
    case 'maximum':
    case 'minimum':
    case 'and':
    case 'or':
      return binaryElement(root.opcode, root.shape.type);
    case 'compare':
      return comparison(root.direction);
    default:
      return undefined;
  }
}

/**
 * Computes random bits and the next state of the generator. A state has four words: two words of a
 * key, then the lower and the upper word of a counter c of 64 bits. Philox makes a block of four
 * random words from the key and a counter of 128 bits. The upper 64 bits of that counter are always
 * 0 here. Block b of the result comes from the counter c + b, with b from 0. In the next state, c
 * is greater by the number of blocks.
 */
function randomBits(shape: Shape, state: Literal): Value {
  const drawn = shape.type === 'tuple' ? shape.elements[1] : undefined;
  assert(drawn !== undefined && isArray(drawn), 'random bits are an array');
  const count = elementCount(drawn);
  const blocks = Math.ceil(count / 4);
  const words = new Uint32Array(4 * blocks);
  const [key0, key1, low, high] = [0, 1, 2, 3].map((i) => valueAt(state, i)) as Quad;
  for (let b = 0; b < blocks; b++) {
    const carry = Math.floor((low + b) / 2 ** 32);
    philoxInto(words, 4 * b, (low + b) >>> 0, (high + carry) >>> 0, 0, 0, key0, key1);
  }
  const data = storage('u32', count);
  data.set(words.subarray(0, count));
  const end = low + blocks;
  const next = [key0, key1, end >>> 0, (high + Math.floor(end / 2 ** 32)) >>> 0];
  return [literal('u32', [4], next), { shape: arrayShape('u32', drawn.dims), data }];
}

type Quad = [number, number, number, number];

function takeInfeed(shape: Shape, run: Run): Value {
  const data = shape.type === 'tuple' ? shape.elements[0] : undefined;
  assert(data !== undefined, 'an infeed gives data and a token');
  const arrays = run.infeed.shift() ?? [];
  const expected = data.type === 'tuple' ? data.elements : [data];
  const found = arrays.map((array) => array.shape);
  const list = (shapes: readonly Shape[]): Shape => ({ type: 'tuple', elements: shapes });
  if (!sameShape(list(expected), list(found))) {
    const texts = `expected ${shapeText(list(expected))}, found ${shapeText(list(found))}`;
    throw new PodError('bad-program', `infeed: ${texts}`);
  }
  return [data.type === 'tuple' ? arrays : at(arrays, 0), 'token'];
}

function element(value: Value, index: number): Value {
  assert(value !== 'token' && !('shape' in value), 'the value is a tuple');
  return at(value, index);
}

/**
 * Combines each operand of an all-reduce over all replicas. Returns one value for each replica; all
 * these values are the same.
 */
function allReduced(
  operands: readonly (readonly Value[])[],
  body: HloComputation,
  combine: AllReduceFunction,
): Value[] {
  const results = at(operands, 0).map((_, i) => {
    const values = operands.map((replica) => literalOf(at(replica, i)));
    return combine(values, body);
  });
  return operands.map(() => (results.length === 1 ? at(results, 0) : results));
}

function foldInOrder(values: readonly Literal[], body: HloComputation): Literal {
  const join = scalarBody(body);
  return values.reduce((sum, next) => mapped(sum.shape, [sum, next], (a, b) => at(join(a, b), 0)));
}
