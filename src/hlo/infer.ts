import type { Shape } from '../numerics/shape.ts';
import type { Draft } from './instruction.ts';
import { definitionOf } from './ops.ts';

/**
 * Infers the shape of an instruction's result from the shapes of its operands and from its
 * attributes, by the rules of XLA's Operation Semantics. Throws `bad-program` if the instruction
 * breaks a rule; the message names the opcode, the shapes of the operands, and what was expected.
 */
export function inferShape(it: Draft): Shape {
  return definitionOf(it.opcode).infer(it);
}
