import type { HloInstruction, Opcode } from '../hlo/instruction.ts';
import { assert } from '../numerics/assert.ts';
import { PodError } from '../numerics/error.ts';
import { type ArrayShape, isArray, shapeText } from '../numerics/shape.ts';

/** What flows back to one instruction; made only when someone wants it. */
export interface Contribution {
  readonly to: HloInstruction;
  readonly cotangent: () => HloInstruction;
}

/** The instruction types that may have opcode `O`. */
export type InstructionOf<O extends Opcode> = Extract<OfOpcode<HloInstruction, O>, HloInstruction>;
type OfOpcode<T, O> = T extends { readonly opcode: infer P } ? (O extends P ? T : never) : never;

/**
 * From the cotangent of a result (of its shape) to the cotangents of its operands: the transpose
 * of the derivative.
 */
export type Rule<O extends Opcode> = (
  it: InstructionOf<O>,
  cotangent: HloInstruction,
) => readonly Contribution[];

/**
 * A rule; or the derivative is `zero` wherever it exists, so that nothing flows; or there is
 * `none`, which is an error if someone asks for it.
 */
export type Derivative<O extends Opcode> =
  | { readonly rule: Rule<O> }
  | { readonly zero: string }
  | { readonly none: string };

/** One contribution to each operand that has an entry, in order of operands. */
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

/** The error of a derivative that does not exist, naming the instruction and the reason. */
export function noDerivative(it: HloInstruction, reason: string): PodError {
  const name = it.name === undefined ? '' : ` (${it.name})`;
  return new PodError('bad-program', `no derivative of ${it.opcode}${name}: ${reason}`);
}
