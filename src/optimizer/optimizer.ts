import type { HloInstruction } from '../hlo/instruction.ts';
import type { NamedLiteral } from '../numerics/literal.ts';

/**
 * Turns gradients into updates, as HLO. An update is the value to add to a parameter. An optimizer
 * is a {@link chain} of small transformations. [optax]
 */
export interface Optimizer {
  /** Optimizer state before the first step: arrays that stay in HBM between steps. */
  init(parameters: readonly NamedLiteral[]): NamedLiteral[];
  /**
   * Updates and new state of one step. `gradients` and `parameters` have the same order; `state`
   * has the arrays and shapes that `init` returned.
   */
  update(
    gradients: readonly HloInstruction[],
    state: readonly HloInstruction[],
    parameters: readonly HloInstruction[],
  ): Update;
}

/** Result of an optimizer's step; `updates` are in the order of the parameters. */
export interface Update {
  readonly updates: readonly HloInstruction[];
  readonly state: readonly HloInstruction[];
  /** f32[], for the log; undefined if no transformation scales by a learning rate. */
  readonly learningRate?: HloInstruction | undefined;
}

/** Applies transformations in order. The state is the concatenation of their states. */
export function chain(...parts: readonly Optimizer[]): Optimizer {
  return {
    init: (parameters) => parts.flatMap((part) => part.init(parameters)),
    update: (gradients, state, parameters) => runChain(parts, gradients, state, parameters),
  };
}

function runChain(
  parts: readonly Optimizer[],
  gradients: readonly HloInstruction[],
  state: readonly HloInstruction[],
  parameters: readonly HloInstruction[],
): Update {
  let updates = gradients;
  let learningRate: HloInstruction | undefined;
  const after: HloInstruction[] = [];
  for (const part of parts) {
    const result = part.update(updates, state.slice(after.length), parameters);
    updates = result.updates;
    after.push(...result.state);
    learningRate = result.learningRate ?? learningRate;
  }
  return { updates, state: after, learningRate };
}
