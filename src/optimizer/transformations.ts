import { filled } from '../autodiff/fill.ts';
import { arrayOf } from '../autodiff/rule.ts';
import { add, broadcastScalar, convert, multiply, named, negate, scalar } from '../hlo/build.ts';
import type { HloInstruction } from '../hlo/instruction.ts';
import { at } from '../numerics/assert.ts';
import { literal, storage } from '../numerics/literal.ts';
import type { Optimizer } from './optimizer.ts';
import { rateOf, type Schedule } from './schedule.ts';

/**
 * A transformation that adds momentum. For each parameter, the state has a trace: the decaying sum
 * of the parameter's gradients. Before the first step, all traces are 0. A step computes the new
 * trace, trace' = gradient + decay · trace. If `nesterov` is true, the update is gradient + decay ·
 * trace'; otherwise it is trace'. [optax, trace]
 */
export function momentum(decay: number, options: { readonly nesterov?: boolean } = {}): Optimizer {
  return {
    init: (parameters) =>
      parameters.map(({ name, value }) => ({
        name: `momentum/${name}`,
        value: { shape: value.shape, data: storage(value.shape.type, value.data.length) },
      })),
    update: (gradients, state) => {
      const step = (gradient: HloInstruction, trace: HloInstruction): HloInstruction =>
        add(gradient, scaled(trace, decay));
      const traces = gradients.map((gradient, i) => step(gradient, at(state, i)));
      const updates = options.nesterov ? gradients.map((g, i) => step(g, at(traces, i))) : traces;
      return { updates, state: traces };
    },
  };
}

/**
 * A transformation that adds weight decay. The update is gradient + decay · parameter, which pulls
 * parameters towards 0. [optax, add_decayed_weights]
 */
export function weightDecay(decay: number): Optimizer {
  return {
    init: () => [],
    update: (gradients, _, parameters) => ({
      updates: gradients.map((gradient, i) => add(gradient, scaled(at(parameters, i), decay))),
      state: [],
    }),
  };
}

/**
 * A transformation that multiplies by the learning rate. The update is −rate · gradient. The state
 * is the number of complete steps (s32[], initially 0). `schedule` computes the rate from this
 * number. [optax, scale_by_learning_rate]
 */
export function scaleBy(schedule: Schedule): Optimizer {
  return {
    init: () => [{ name: 'step', value: literal('s32', [], [0]) }],
    update: (gradients, state) => {
      const step = at(state, 0);
      const learningRate = named(rateOf(schedule, step), 'update/learning-rate');
      const factor = negate(learningRate);
      return {
        updates: gradients.map((gradient) => {
          const { type, dims } = arrayOf(gradient);
          const typed = type === 'f32' ? factor : convert(factor, type);
          return multiply(gradient, broadcastScalar(typed, dims));
        }),
        state: [add(step, scalar('s32', 1))],
        learningRate,
      };
    },
  };
}

function scaled(x: HloInstruction, factor: number): HloInstruction {
  return multiply(x, filled(x, factor));
}
