import { assert, at } from '../numerics/assert.ts';
import type { Scalar } from '../numerics/element-type.ts';
import { PodError } from '../numerics/error.ts';
import { type Literal, literal, scalarAt } from '../numerics/literal.ts';
import { isArray, sameShape, shapeText, tupleShape } from '../numerics/shape.ts';
import { mapped } from './evaluate/mapped.ts';
import type { ScalarBody } from './evaluate/reduce.ts';
import { flattened, type Value } from './evaluate/value.ts';
import type { HloComputation, HloInstruction, HloModule } from './instruction.ts';
import type { Run } from './ops/definition.ts';
import { definitionOf } from './ops.ts';
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
  const runs = replicas.map((inputs, replica) => startRun(entry, inputs, replica));
  const combine = options.allReduce ?? foldInOrder;
  for (const it of postOrder(entry.root)) {
    const operands = runs.map((run) => it.operands.map((operand) => run.values.get(operand)!));
    const definition = definitionOf(it.opcode);
    const results =
      'exchange' in definition
        ? definition.exchange(it, operands, combine)
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

/**
 * Runs a computation that contains no infeed, no outfeed and no collective. `replica` is the number of
 * the replica that runs it.
 */
export function evaluateComputation(
  computation: HloComputation,
  args: readonly Value[],
  replica = 0,
): Value {
  const state = stateOf(args, { replica });
  for (const it of orderOf(computation)) {
    const operands = it.operands.map((operand) => state.values.get(operand)!);
    state.values.set(it, resultOf(it, operands, state));
  }
  return state.values.get(computation.root)!;
}

/** The instructions of computations that have been evaluated, because loops evaluate one often. */
const orders = new WeakMap<HloComputation, readonly HloInstruction[]>();

/** Returns the instructions of a computation, operands before their users. */
function orderOf(computation: HloComputation): readonly HloInstruction[] {
  const known = orders.get(computation);
  if (known !== undefined) return known;
  const order = postOrder(computation.root);
  orders.set(computation, order);
  return order;
}

/** State of one replica during a run. */
interface State {
  readonly run: Run;
  readonly outfeed: (readonly Literal[])[];
  readonly values: Map<HloInstruction, Value>;
}

/** Returns the state before the first instruction. `infeed` has the entries to receive, in order. */
function stateOf(
  parameters: readonly Value[],
  { replica, infeed = [] }: Pick<Run, 'replica'> & Pick<EvaluateInputs, 'infeed'>,
): State {
  const left = [...infeed];
  const outfeed: (readonly Literal[])[] = [];
  const run: Run = {
    parameters,
    replica,
    receive: () => left.shift() ?? [],
    send: (arrays) => void outfeed.push(arrays),
    call: (body, operands) => evaluateComputation(body, operands, replica),
    scalar: (body) => scalarBody(body, replica),
  };
  return { run, outfeed, values: new Map() };
}

function startRun(entry: HloComputation, inputs: EvaluateInputs, replica: number): State {
  const expected = tupleShape(entry.parameters.map(({ shape }) => shape));
  const found = tupleShape(inputs.parameters.map(({ shape }) => shape));
  if (!sameShape(expected, found)) {
    const texts = `expected ${shapeText(expected)}, found ${shapeText(found)}`;
    throw new PodError('bad-program', `parameters of ${entry.name}: ${texts}`);
  }
  return stateOf(inputs.parameters, { ...inputs, replica });
}

function resultOf(it: HloInstruction, operands: readonly Value[], state: State): Value {
  const definition = definitionOf(it.opcode);
  assert('evaluate' in definition, `${it.opcode} stands in the entry computation`);
  return definition.evaluate(it, operands, state.run);
}

/**
 * Turns a computation on scalars into a function of their values. Usually, the function evaluates the
 * computation. If the computation is only one common operation, such as `add` or `compare`, returns
 * the JavaScript function of this operation, which is faster.
 */
function scalarBody(body: HloComputation, replica = 0): ScalarBody {
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
    return flattened(evaluateComputation(body, args, replica)).map((value) => scalarAt(value, 0));
  };
}

/** Returns the function of an element-wise operation, if its definition has one. */
function directBody(root: HloInstruction): ((...values: Scalar[]) => Scalar) | undefined {
  const definition = definitionOf(root.opcode);
  return 'evaluate' in definition ? definition.element?.(root) : undefined;
}

function foldInOrder(values: readonly Literal[], body: HloComputation): Literal {
  const join = scalarBody(body);
  return values.reduce((sum, next) => mapped(sum.shape, [sum, next], (a, b) => at(join(a, b), 0)));
}
