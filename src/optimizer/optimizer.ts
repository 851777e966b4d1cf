import type { HloInstruction } from '../hlo/instruction.ts';
import type { NamedLiteral } from '../numerics/literal.ts';

/**
 * An optimizer: builds HLO that computes updates from gradients. An update is the value to add to a
 * parameter. An optimizer is usually a {@link chain} of small transformations. [optax]
 */
export interface Optimizer {
  /**
   * Returns the state of the optimizer before the first step: arrays that stay in HBM between
   * steps.
   */
  init(parameters: readonly NamedLiteral[]): NamedLiteral[];
  /**
   * Returns the updates and the new state of one step. `gradients` and `parameters` have the same
   * order. `state` has the same arrays as the result of `init`: in the same order, with the same
   * shapes.
   */
  update(
    gradients: readonly HloInstruction[],
    state: readonly HloInstruction[],
    parameters: readonly HloInstruction[],
  ): Update;
}

/** Result of one step of an optimizer. `updates` has the order of the parameters. */
export interface Update {
  readonly updates: readonly HloInstruction[];
  readonly state: readonly HloInstruction[];
  /**
   * Learning rate of the step (f32[]), for the log. Undefined if no transformation of the optimizer
   * uses a learning rate.
   */
  readonly learningRate?: HloInstruction | undefined;
}

/**
 * Returns an optimizer that applies several transformations in order. Each transformation takes as
 * its gradients the updates of the transformation before it. The state of the optimizer has the
 * states of all transformations, one after another.
 */
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
