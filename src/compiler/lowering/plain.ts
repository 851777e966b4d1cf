import { module, parameter, tuple } from '../../hlo/build.ts';
import type { HloInstruction, HloModule, Parameter } from '../../hlo/instruction.ts';
import { print } from '../../hlo/print.ts';
import { withOperands } from '../../hlo/traverse.ts';
import { at } from '../../numerics/assert.ts';
import type { Shape } from '../../numerics/shape.ts';
import type { Value } from '../program.ts';
import { refuseReplicaId } from './identity.ts';
import { leaves, nameOf, type StepWriter } from './step.ts';

/**
 * Adds a step that computes an instruction by its definition, and returns the values of its result.
 * This is slow. It is the lowering of an instruction for which the core has no faster code, because
 * of its opcode, its element types or its size. `reason` says why; `pod compile` prints it.
 */
export function plainCode(it: HloInstruction, reason: string, to: StepWriter): readonly Value[] {
  refuseReplicaId(it);
  const reads = it.operands.flatMap((x) => to.valuesOf(x));
  const readShapes = it.operands.flatMap((x) => leaves(x.shape));
  const shapes = leaves(it.shape);
  const writes = shapes.map((shape, i) => {
    const value = to.fresh(it, shape);
    return shapes.length === 1 ? value : { ...value, name: `${nameOf(it)}/${i}` };
  });
  const phase = to.phaseOf(it);
  const text = print(moduleWith(it));
  to.push({
    reads,
    writes,
    instruction: (buffer) => ({
      unit: 'plain',
      name: nameOf(it),
      phase,
      opcode: it.opcode,
      reason,
      module: text,
      sources: reads.map((value, i) => ({ buffer: buffer(value), shape: at(readShapes, i) })),
      targets: writes.map(buffer),
    }),
  });
  return writes;
}

/** Returns a module with the one instruction, which takes the arrays of its operands. */
export function moduleWith(it: HloInstruction): HloModule {
  const parameters: Parameter[] = [];
  const operands = it.operands.map(({ shape }) => taken(shape, parameters));
  return module(it.opcode, parameters, withOperands(it, operands));
}

/** Returns a value of the given shape, made of new parameters that are arrays. */
function taken(shape: Shape, parameters: Parameter[]): HloInstruction {
  if (shape.type === 'tuple') return tuple(shape.elements.map((it) => taken(it, parameters)));
  const made = parameter(parameters.length, shape);
  parameters.push(made);
  return made;
}
