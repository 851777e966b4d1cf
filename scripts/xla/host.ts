import * as b from '../../src/hlo/build.ts';
import type { EvaluateInputs } from '../../src/hlo/evaluate.ts';
import type {
  HloComputation,
  HloInstruction,
  HloModule,
  Parameter,
} from '../../src/hlo/instruction.ts';
import { mapInstructions, postOrder, withOperands } from '../../src/hlo/traverse.ts';
import { assert, at } from '../../src/numerics/assert.ts';
import type { Literal } from '../../src/numerics/literal.ts';
import { type ArrayShape, isArray, type Shape, type TupleShape } from '../../src/numerics/shape.ts';

/** A program whose arrays all come in as parameters and all go out as elements of one tuple. */
export interface Hostless {
  readonly module: HloModule;
  readonly parameters: readonly Literal[];
}

/**
 * The same program without a host: an infeed becomes parameters, and what an outfeed sends becomes more
 * results after those of the root. XLA's CPU client has no host to feed it. Aliases are left out: they
 * say where results lie, not what they are. XLA's CPU backend does not run all that XLA parses: a fusion is
 * replaced by the instructions of its body, and the padding of a scalar by the scalar.
 */
export function withoutHost(module: HloModule, inputs: EvaluateInputs): Hostless {
  const fed: Parameter[] = [];
  const sent: HloInstruction[] = [];
  const entry = mapInstructions(module.entry, (it, operands) => {
    switch (it.opcode) {
      case 'infeed': {
        const next = module.entry.parameters.length + fed.length;
        const arrays = infeedShapes(it.shape).map((shape, i) => b.parameter(next + i, shape));
        fed.push(...arrays);
        return b.tuple([
          isTuple(dataOf(it.shape)) ? b.tuple(arrays) : at(arrays, 0),
          at(operands, 0),
        ]);
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
    parameters: [...inputs.parameters, ...(inputs.infeed ?? []).flat()],
  };
}

/** The arrays that an infeed of the given shape, (data, token), brings. */
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

/** A shape that is known to be that of an array. */
export function arrayOf(shape: Shape): ArrayShape {
  assert(isArray(shape), 'what comes in are arrays');
  return shape;
}

/** What a computation makes of operands, without the computation. */
function inlined({ root }: HloComputation, operands: readonly HloInstruction[]): HloInstruction {
  const made = new Map<HloInstruction, HloInstruction>();
  const now = (it: HloInstruction): HloInstruction => {
    const found = made.get(it);
    assert(found !== undefined, `${it.opcode} comes before its users`);
    return found;
  };
  for (const it of postOrder(root)) {
    const inputs = it.operands.map(now);
    made.set(it, it.opcode === 'parameter' ? at(operands, it.index) : withOperands(it, inputs));
  }
  return now(root);
}

function isScalar({ shape }: HloInstruction): boolean {
  return isArray(shape) && shape.dims.length === 0;
}

/** The arrays of a value, tuples opened depth first; tokens are left out. */
function arraysOf(it: HloInstruction): HloInstruction[] {
  if (isArray(it.shape)) return [it];
  if (it.shape.type !== 'tuple') return [];
  return it.shape.elements.flatMap((_, i) => arraysOf(b.getTupleElement(it, i)));
}
