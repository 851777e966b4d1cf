import type { HloInstruction } from '../hlo/instruction.ts';
import type { NamedLiteral } from '../numerics/literal.ts';

/**
 * From gradients to updates, as HLO. An update is what is added to a parameter. Optimizers are
 * made from small transformations by {@link chain}. [optax]
 */
export interface Optimizer {
  /** The state before the first step: arrays that stay in HBM from step to step. */
  init(parameters: readonly NamedLiteral[]): NamedLiteral[];
  /** One step. `state` has the shapes that `init` gave; the lists run in step with parameters. */
  update(
    gradients: readonly HloInstruction[],
    state: readonly HloInstruction[],
    parameters: readonly HloInstruction[],
  ): Update;
}

export interface Update {
  readonly updates: readonly HloInstruction[];
  readonly state: readonly HloInstruction[];
  /** f32[], for the log; none where nothing scales by one. */
  readonly learningRate?: HloInstruction | undefined;
}

/** Runs transformations in order. Its state is the list of their states, in the same order. */
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
