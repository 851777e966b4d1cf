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
import { isArray } from '../../src/numerics/shape.ts';

/** A program whose arrays all come in as parameters and all go out as elements of one tuple. */
export interface Hostless {
  readonly module: HloModule;
  readonly parameters: readonly Literal[];
}

/**
 * The same program without a host: an infeed becomes parameters, and what an outfeed sends becomes more
 * results after those of the root. XLA's CPU client has no host to feed it. Aliases are left out: they
 * say where results lie, not what they are. What XLA parses and its CPU backend does not run has its
 * meaning in its place: a fusion that of its body, the padding of a scalar the scalar.
 */
export function withoutHost(module: HloModule, inputs: EvaluateInputs): Hostless {
  const fed: Parameter[] = [];
  const sent: HloInstruction[] = [];
  const before = module.entry.parameters.length;
  const isFed = (it: HloInstruction): boolean => it.opcode === 'infeed' || it.opcode === 'outfeed';
  const replace = (it: HloInstruction, operands: readonly HloInstruction[]): HloInstruction => {
    if (it.opcode === 'infeed') {
      const [data] = it.shape.type === 'tuple' ? it.shape.elements : [];
      const [token] = operands;
      assert(data !== undefined && token !== undefined, 'an infeed has data and a token');
      const arrays = data.type === 'tuple' ? data.elements : [data];
      const parameters = arrays.map((shape, i) => {
        assert(isArray(shape), 'an infeed brings arrays');
        return b.parameter(before + fed.length + i, shape);
      });
      fed.push(...parameters);
      const [first] = parameters;
      const whole = data.type === 'tuple' || first === undefined ? b.tuple(parameters) : first;
      return b.tuple([whole, token]);
    }
    const [data, token] = operands;
    assert(data !== undefined && token !== undefined, 'an outfeed has data and a token');
    sent.push(...arraysOf(data));
    return token;
  };
  const entry = mapInstructions(module.entry, (it, operands) => {
    const [operand] = operands;
    if (it.opcode === 'pad' && operand !== undefined && isScalar(operand)) return operand;
    if (isFed(it)) return replace(it, operands);
    return it.opcode === 'fusion' ? inlined(it.body, operands) : withOperands(it, operands);
  });
  const root = b.tuple([...arraysOf(entry.root), ...sent]);
  return {
    module: b.module(module.name, [...entry.parameters, ...fed] as Parameter[], root),
    parameters: [...inputs.parameters, ...(inputs.infeed ?? []).flat()],
  };
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
