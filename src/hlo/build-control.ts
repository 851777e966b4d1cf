import { make } from './build.ts';
import type {
  Call,
  Conditional,
  HloComputation,
  HloInstruction,
  OptBarrier,
  ScalarMap,
  While,
} from './instruction.ts';

/* Builders of the operations that decide which computation runs, how often, and when. */

/** The result of `body`, which has one parameter for each operand. */
export function call(body: HloComputation, operands: readonly HloInstruction[]): Call {
  return make<Call>({ opcode: 'call', operands, body });
}

/**
 * The result of one of the branches. `operands` has one operand for each branch. The selector is a
 * scalar: the index of the branch as s32, or a pred for two branches. If the pred is true, the first
 * branch runs.
 */
export function conditional(
  selector: HloInstruction,
  branches: readonly HloComputation[],
  operands: readonly HloInstruction[],
): Conditional {
  return make<Conditional>({ opcode: 'conditional', operands: [selector, ...operands], branches });
}

/** A loop: starting from `init`, applies `body` as long as `condition` is true. */
export function whileLoop(
  init: HloInstruction,
  condition: HloComputation,
  body: HloComputation,
): While {
  return make<While>({ opcode: 'while', operands: [init], condition, body });
}

/** x, through which no pass of the compiler looks. */
export function optBarrier(x: HloInstruction): OptBarrier {
  return make<OptBarrier>({ opcode: 'opt-barrier', operands: [x] });
}

/** Applies `body`, a computation on scalars, to the elements of the operands at the same index. */
export function scalarMap(operands: readonly HloInstruction[], body: HloComputation): ScalarMap {
  return make<ScalarMap>({ opcode: 'map', operands, body });
}
