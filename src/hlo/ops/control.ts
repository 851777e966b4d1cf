import { at } from '../../numerics/assert.ts';
import { arrayShape, isArray, type Shape, shapeText } from '../../numerics/shape.ts';
import { branchOf, mappedBy, whileOf } from '../evaluate/control.ts';
import { literalOf } from '../evaluate/value.ts';
import type { Draft, HloComputation, InstructionBase } from '../instruction.ts';
import { type Attribute, callee, field } from '../text/attribute.ts';
import { readIntegers } from '../text/read.ts';
import {
  arrayOperand,
  arraysOfOneSize,
  expect,
  expectCall,
  expectOperands,
  expectSignature,
  refuse,
  shapesOf,
} from './check.ts';
import type { Definition, DefinitionsOf } from './definition.ts';

/** Operations that decide which computation runs, how often, and when. */
export type Control = Call | Conditional | While | OptBarrier | ScalarMap;

/** The result of a computation. `body` has one parameter for each operand. */
export interface Call extends InstructionBase<'call', Shape> {
  readonly body: HloComputation;
}

/**
 * The result of one of several computations. Operands: a scalar that selects the branch, then one
 * operand for each branch. Only the selected branch runs. There are two forms:
 *
 * - The selector is pred, and there are two branches: the first is for true, the second for false.
 * - The selector is s32: the index of the branch. For an index out of range, the last branch runs.
 *
 * Each branch has one parameter, and all branches have results of the same shape.
 */
export interface Conditional extends InstructionBase<'conditional', Shape> {
  readonly branches: readonly HloComputation[];
}

/**
 * A loop. Operand: the value before the first trip, often a tuple. `condition` takes a value and
 * returns a pred. As long as it is true, `body` computes the next value from the value. The result
 * is the value for which `condition` is false.
 */
export interface While extends InstructionBase<'while', Shape> {
  readonly condition: HloComputation;
  readonly body: HloComputation;
}

/**
 * The operand, unchanged. What uses the result runs after all that the operand depends on, and no
 * pass of the compiler looks through the instruction.
 */
export interface OptBarrier extends InstructionBase<'opt-barrier', Shape> {}

/**
 * Applies a computation on scalars to the elements of one or more arrays at the same index.
 * Operands: arrays of the same dimensions. `body` takes a scalar of each and returns a scalar.
 */
export interface ScalarMap extends InstructionBase<'map'> {
  readonly body: HloComputation;
}

const call: Definition<Call> = {
  family: 'control',
  attributes: [field('to_apply', 'body', callee)],
  bodies: ({ body }) => [body],
  infer: (it) => {
    expectCall(it, it.body, shapesOf(it));
    return it.body.root.shape;
  },
  evaluate: ({ body }, operands, run) => run.call(body, operands),
};

/** The two branches of a conditional whose selector is pred, as XLA prints them. */
const predBranches: Attribute<Conditional> = {
  key: 'true_computation',
  write: (it, nameOf) => {
    if (!hasPredSelector(it)) return undefined;
    return it.branches.map(nameOf).join(', false_computation=');
  },
  read: (scanner, scope) => {
    const onTrue = callee.read(scanner, scope);
    scanner.expect(',');
    scanner.expect('false_computation');
    scanner.expect('=');
    return { branches: [onTrue, callee.read(scanner, scope)] };
  },
  otherwise: {},
};

/** The branches of a conditional whose selector is an index. */
const indexedBranches: Attribute<Conditional> = {
  key: 'branch_computations',
  write: (it, nameOf) =>
    hasPredSelector(it) ? undefined : `{${it.branches.map(nameOf).join(', ')}}`,
  read: (scanner, scope) => ({
    branches: scanner.list('{', '}', () => callee.read(scanner, scope)),
  }),
  otherwise: {},
};

const conditional: Definition<Conditional> = {
  family: 'control',
  attributes: [predBranches, indexedBranches],
  bodies: ({ branches }) => branches,
  infer: conditionalShape,
  evaluate: ({ branches }, [selector, ...operands], run) => {
    const n = branchOf(literalOf(selector!), branches.length);
    return run.call(at(branches, n), [at(operands, n)]);
  },
};

const whileLoop: Definition<While> = {
  family: 'control',
  attributes: [field('condition', 'condition', callee), field('body', 'body', callee)],
  bodies: ({ condition, body }) => [condition, body],
  infer: (it) => {
    expectOperands(it, 1);
    const shape = at(shapesOf(it), 0);
    expectSignature(it, it.condition, [shape], arrayShape('pred', []));
    expectSignature(it, it.body, [shape], shape);
    return shape;
  },
  evaluate: (it, [init], run) => whileOf(it, init!, run),
};

const optBarrier: Definition<OptBarrier> = {
  family: 'control',
  isBarrier: true,
  infer: (it) => {
    expectOperands(it, 1);
    return at(shapesOf(it), 0);
  },
  evaluate: (_, [x]) => x!,
};

/** The dimensions of the arrays of a map. XLA writes them, and they must be all in order. */
const allDimensions: Attribute<ScalarMap> = {
  key: 'dimensions',
  write: ({ shape }) => `{${shape.dims.map((_, d) => d).join(',')}}`,
  read: (scanner, { operands: [first] }) => {
    const { position } = scanner;
    const rank = first !== undefined && isArray(first.shape) ? first.shape.dims.length : 0;
    const dimensions = readIntegers(scanner);
    const isAll = dimensions.length === rank && dimensions.every((d, i) => d === i);
    if (!isAll) scanner.fail(`all ${rank} dimensions in order`, position);
    return {};
  },
  otherwise: {},
};

const scalarMap: Definition<ScalarMap> = {
  family: 'elementwise',
  attributes: [allDimensions, field('to_apply', 'body', callee)],
  bodies: ({ body }) => [body],
  infer: mapShape,
  evaluate: ({ shape, body }, operands, run) =>
    mappedBy(shape, operands.map(literalOf), run.scalar(body)),
};

/** Definitions of {@link Control}. */
export const controlDefinitions: DefinitionsOf<Control> = {
  call,
  conditional,
  while: whileLoop,
  'opt-barrier': optBarrier,
  map: scalarMap,
};

function hasPredSelector({ operands: [selector] }: Pick<Conditional, 'operands'>): boolean {
  return selector?.shape.type === 'pred';
}

function conditionalShape(it: Draft<Conditional>): Shape {
  // The text may have left out both lists of branches.
  const branches: readonly HloComputation[] | undefined = it.branches;
  const first = branches?.[0];
  if (first === undefined) return refuse(it, 'at least one branch');
  const selector = arrayOperand(it, 0);
  const isSelector = ['pred', 's32'].includes(selector.type) && selector.dims.length === 0;
  expect(it, isSelector, `a selector pred[] or s32[], not ${shapeText(selector)}`);
  expect(it, selector.type === 's32' || branches.length === 2, 'two branches for a pred');
  expectOperands(it, 1 + branches.length);
  branches.forEach((branch, n) => {
    const operand = at(shapesOf(it), n + 1);
    expectSignature(it, branch, [operand], first.root.shape);
  });
  return first.root.shape;
}

function mapShape(it: Draft<ScalarMap>): Shape {
  const shapes = arraysOfOneSize(it);
  const { dims } = at(shapes, 0);
  const result = it.body.root.shape;
  const isScalar = isArray(result) && result.dims.length === 0;
  expect(it, isScalar, `${it.body.name} to return a scalar, not ${shapeText(result)}`);
  const scalars = shapes.map((shape) => arrayShape(shape.type, []));
  expectSignature(it, it.body, scalars, result);
  return arrayShape(result.type, dims);
}
