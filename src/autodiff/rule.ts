import type { HloComputation, HloInstruction, InstructionOf, Opcode } from '../hlo/instruction.ts';
import { assert } from '../numerics/assert.ts';
import { PodError } from '../numerics/error.ts';
import { type ArrayShape, isArray, shapeText } from '../numerics/shape.ts';

/**
 * A summand of the cotangent of the instruction `to`. The function `cotangent` builds this summand
 * as HLO; `gradient` calls the function only if it needs the summand.
 */
export interface Contribution {
  readonly to: HloInstruction;
  /** If `to` is a tuple: which of its leaves receives the summand. Default: 0. */
  readonly leaf?: number;
  readonly cotangent: () => HloInstruction;
}

/**
 * Derivative rule of an opcode, for reverse mode. `cotangent` is the cotangent of the result and
 * has the result's shape. The rule returns the cotangents of the operands.
 */
export type Rule<O extends Opcode> = (
  it: InstructionOf<O>,
  cotangent: HloInstruction,
) => readonly Contribution[];

/**
 * The cotangents of the leaves of a value, which are the arrays in it, depth first. A leaf without
 * cotangent has undefined.
 */
export type Cotangents = readonly (HloInstruction | undefined)[];

/** Derivative rule of an opcode whose result may be a tuple. */
export type LeavesRule<O extends Opcode> = (
  it: InstructionOf<O>,
  cotangents: Cotangents,
  tools: Tools,
) => readonly Contribution[];

/** What a rule may use for an instruction that calls computations. */
export interface Tools {
  /** True if `gradient` needs the cotangent of an instruction. */
  isWanted(it: HloInstruction): boolean;
  /** Returns a computation that computes the cotangents of a computation's parameters. */
  backward(body: HloComputation, leaves: BackwardLeaves): HloComputation;
}

/** Leaves of a computation that have, or get, cotangents. */
export interface BackwardLeaves {
  /** For each leaf of the result: true if its cotangent is given. */
  readonly given: readonly boolean[];
  /** For each leaf of the parameters: true if its cotangent is wanted. It must be a float. */
  readonly wanted: readonly boolean[];
}

/**
 * The derivative of an opcode, in one of four forms. `rule`: a function computes the cotangents of
 * the operands. `leaves`: the same, for an opcode whose result may be a tuple. `zero`: the
 * derivative is 0 wherever it exists, so operands receive no cotangent. `none`: there is no
 * derivative, so `gradient` throws `bad-program` if a cotangent reaches an instruction with this
 * opcode. The strings in `zero` and `none` are the reasons.
 */
export type Derivative<O extends Opcode> =
  | { readonly rule: Rule<O> }
  | { readonly leaves: LeavesRule<O> }
  | { readonly zero: string }
  | { readonly none: string };

/**
 * Pairs operand i of `it` with `cotangents[i]`, the function that builds its cotangent. If this
 * function is undefined, the operand is left out of the result.
 */
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

/** Returns the shape of an instruction whose value must be an array (asserted). */
export function arrayOf(it: HloInstruction): ArrayShape {
  assert(isArray(it.shape), `${it.opcode} is ${shapeText(it.shape)}, not an array`);
  return it.shape;
}

/**
 * Creates the error (`bad-program`) for an instruction without a derivative. The message names the
 * instruction and the reason.
 */
export function noDerivative(it: HloInstruction, reason: string): PodError {
  const name = it.name === undefined ? '' : ` (${it.name})`;
  return new PodError('bad-program', `no derivative of ${it.opcode}${name}: ${reason}`);
}
