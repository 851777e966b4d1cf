import type { HloInstruction, Opcode } from '../hlo/instruction.ts';
import { assert } from '../numerics/assert.ts';
import { PodError } from '../numerics/error.ts';
import { type ArrayShape, isArray, shapeText } from '../numerics/shape.ts';

/**
 * A cotangent that flows back from an instruction to its operand `to`. `cotangent` makes it, and is
 * called only if the gradient needs it.
 */
export interface Contribution {
  readonly to: HloInstruction;
  readonly cotangent: () => HloInstruction;
}

/** The instruction types that may have opcode `O`. */
export type InstructionOf<O extends Opcode> = Extract<OfOpcode<HloInstruction, O>, HloInstruction>;
type OfOpcode<T, O> = T extends { readonly opcode: infer P } ? (O extends P ? T : never) : never;

/**
 * Derivative rule of an opcode, transposed: takes the cotangent of the result, of the result's
 * shape, and returns the cotangents of the operands.
 */
export type Rule<O extends Opcode> = (
  it: InstructionOf<O>,
  cotangent: HloInstruction,
) => readonly Contribution[];

/**
 * The derivative of an opcode: a rule; `zero` if it is 0 wherever it exists, so that no cotangent
 * flows; or `none` if there is no derivative, so that `gradient` throws `bad-program` on the way
 * through such an instruction. The strings are the reasons.
 */
export type Derivative<O extends Opcode> =
  | { readonly rule: Rule<O> }
  | { readonly zero: string }
  | { readonly none: string };

/** Pairs each operand with its cotangent, by position. An undefined cotangent is left out. */
export function toOperands(
  it: HloInstruction,
  ...cotangents: readonly ((() => HloInstruction) | undefined)[]
): Contribution[] {
  return cotangents.flatMap((cotangent, i) =>
    cotangent === undefined ? [] : [{ to: operand(it, i), cotangent }],
  );
}

export function operand(it: HloInstruction, index: number): HloInstruction {
  const found = it.operands[index];
  assert(found !== undefined, `${it.opcode} has no operand ${index}`);
  return found;
}

/** The shape of an array-valued instruction. */
export function arrayOf(it: HloInstruction): ArrayShape {
  assert(isArray(it.shape), `${it.opcode} is ${shapeText(it.shape)}, not an array`);
  return it.shape;
}

/** The error (`bad-program`) for a missing derivative; it names the instruction and the reason. */
export function noDerivative(it: HloInstruction, reason: string): PodError {
  const name = it.name === undefined ? '' : ` (${it.name})`;
  return new PodError('bad-program', `no derivative of ${it.opcode}${name}: ${reason}`);
}
