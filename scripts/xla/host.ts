import * as b from '../../src/hlo/build.ts';
import type { EvaluateInputs } from '../../src/hlo/evaluate.ts';
import type { HloInstruction, HloModule, Parameter } from '../../src/hlo/instruction.ts';
import { inlined, mapInstructions, postOrder, withOperands } from '../../src/hlo/traverse.ts';
import { assert, at } from '../../src/numerics/assert.ts';
import type { Literal } from '../../src/numerics/literal.ts';
import { type ArrayShape, isArray, type Shape, type TupleShape } from '../../src/numerics/shape.ts';

/**
 * A program without infeed and outfeed. All its inputs are parameters, and all its outputs are
 * elements of the root tuple.
 */
export interface Hostless {
  readonly module: HloModule;
  readonly parameters: readonly Literal[];
  /** True if constants of the program became parameters. */
  readonly hasParametersForConstants: boolean;
}

/**
 * Rewrites a program for XLA's CPU client. This client has no host that feeds programs:
 *
 * - An infeed becomes parameters.
 * - The arrays that an outfeed sends become elements of the root tuple. They follow the elements
 *   that the root already has.
 * - A fusion becomes the instructions of its body, because XLA's CPU backend cannot run our
 *   fusions.
 * - A pad of a scalar becomes the scalar, because the backend cannot run such a pad.
 * - In a program with a `count-leading-zeros`, the constants become parameters. XLA would compute
 *   this opcode of constants at compile time, and gets −32 instead of 0 for a negative s32, because
 *   it counts from bit 63. The code that it compiles is right.
 * - The list of outputs that overwrite parameters (aliases) is dropped, because it changes no
 *   value.
 */
export function withoutHost(module: HloModule, inputs: EvaluateInputs): Hostless {
  const fed: Parameter[] = [];
  const values: Literal[] = [];
  const feeds = (inputs.infeed ?? []).flat();
  const mustNotFold = postOrder(module.entry.root).some(isCount);
  const sent: HloInstruction[] = [];
  const entry = mapInstructions(module.entry, (it, operands) => {
    switch (it.opcode) {
      case 'infeed': {
        const next = module.entry.parameters.length + fed.length;
        const arrays = infeedShapes(it.shape).map((shape, i) => b.parameter(next + i, shape));
        fed.push(...arrays);
        values.push(...feeds.splice(0, arrays.length));
        return b.tuple([
          isTuple(dataOf(it.shape)) ? b.tuple(arrays) : at(arrays, 0),
          at(operands, 0),
        ]);
      }
      case 'constant': {
        if (!mustNotFold) return it;
        const parameter = b.parameter(module.entry.parameters.length + fed.length, it.shape);
        fed.push(parameter);
        values.push(it.value);
        return parameter;
      }
      case 'outfeed':
        sent.push(...arraysOf(at(operands, 0)));
        return at(operands, 1);
      case 'fusion':
        return inlined(it.body, operands);
      case 'pad':
        return isScalar(at(operands, 0)) ? at(operands, 0) : withOperands(it, operands);
      default:
        return withOperands(it, operands);
    }
  });
  const root = b.tuple([...arraysOf(entry.root), ...sent]);
  return {
    module: b.module(module.name, [...entry.parameters, ...fed] as Parameter[], root),
    parameters: [...inputs.parameters, ...values],
    hasParametersForConstants: mustNotFold,
  };
}

function isCount({ opcode }: HloInstruction): boolean {
  return opcode === 'count-leading-zeros';
}

/**
 * Returns the shapes of the arrays that an infeed delivers. `shape` is the shape of the infeed
 * itself: a tuple of the data and a token.
 */
export function infeedShapes(shape: Shape): readonly ArrayShape[] {
  const data = dataOf(shape);
  return isTuple(data) ? data.elements.map(arrayOf) : [arrayOf(data)];
}

function dataOf(shape: Shape): Shape {
  assert(isTuple(shape), 'an infeed has data and a token');
  return at(shape.elements, 0);
}

function isTuple(shape: Shape): shape is TupleShape {
  return shape.type === 'tuple';
}

/** Asserts that a shape is the shape of an array, and returns it. */
export function arrayOf(shape: Shape): ArrayShape {
  assert(isArray(shape), 'what comes in are arrays');
  return shape;
}

function isScalar({ shape }: HloInstruction): boolean {
  return isArray(shape) && shape.dims.length === 0;
}

/**
 * Returns the arrays in a value. If the value is a tuple, descends into nested tuples in order.
 * Leaves out tokens.
 */
function arraysOf(it: HloInstruction): HloInstruction[] {
  if (isArray(it.shape)) return [it];
  if (it.shape.type !== 'tuple') return [];
  return it.shape.elements.flatMap((_, i) => arraysOf(b.getTupleElement(it, i)));
}
