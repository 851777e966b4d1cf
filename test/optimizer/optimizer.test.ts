import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { add, module, parameter, tuple } from '../../src/hlo/build.ts';
import { evaluate } from '../../src/hlo/evaluate.ts';
import {
  type Literal,
  literal,
  type NamedLiteral,
  valueAt,
  valuesOf,
} from '../../src/numerics/literal.ts';
import { chain, type Optimizer } from '../../src/optimizer/optimizer.ts';
import { constant, piecewise, rateAt } from '../../src/optimizer/schedule.ts';
import { sgd } from '../../src/optimizer/sgd.ts';
import { momentum, scaleBy, weightDecay } from '../../src/optimizer/transformations.ts';

const f32 = Math.fround;
const vector = (values: readonly number[]): Literal => literal('f32', [values.length], values);

/**
 * Runs an optimizer for one step for each entry of `gradients`. An entry has one gradient for each
 * parameter. Returns the weights and the state after the last step, and the learning rates of all
 * steps.
 */
function run(
  optimizer: Optimizer,
  start: readonly (readonly number[])[],
  gradients: readonly (readonly (readonly number[])[])[],
): { weights: number[][]; state: NamedLiteral[]; rates: number[] } {
  const initial = start.map((values, i) => ({ name: `w${i}`, value: vector(values) }));
  let weights = initial.map(({ value }) => value);
  let state = optimizer.init(initial);
  const rates: number[] = [];
  for (const step of gradients) {
    const inputs = [...weights, ...state.map(({ value }) => value), ...step.map(vector)];
    const parameters = inputs.map(({ shape }, i) => parameter(i, shape));
    const n = weights.length;
    const own = parameters.slice(0, n);
    const result = optimizer.update(
      parameters.slice(n + state.length),
      parameters.slice(n, n + state.length),
      own,
    );
    const updated = own.map((weight, i) => add(weight, result.updates[i]!));
    const rate = result.learningRate === undefined ? [] : [result.learningRate];
    const root = tuple([...updated, ...result.state, ...rate]);
    const { values } = evaluate(module('update', parameters, root), { parameters: inputs });
    weights = values.slice(0, n);
    state = state.map(({ name }, i) => ({ name, value: values[n + i]! }));
    rates.push(...values.slice(n + state.length).map((it) => valueAt(it, 0)));
  }
  return { weights: weights.map(valuesOf), state, rates };
}

const number = fc.float({ min: -4, max: 4, noNaN: true, noDefaultInfinity: true });
const steps = fc.array(fc.array(number, { minLength: 3, maxLength: 3 }), {
  minLength: 1,
  maxLength: 4,
});

describe('sgd equals its recurrence, to the bit', () => {
  test.each([
    [0, false, 0],
    [0.9, false, 0],
    [0.9, true, 0],
    [0.9, false, 0.01],
    [0, false, 0.01],
  ])('momentum %d, nesterov %s, weight decay %d', (decay, nesterov, pull) => {
    const learningRate = piecewise([2], [0.5], constant(0.1));
    const optimizer = sgd({ learningRate, momentum: decay, nesterov, weightDecay: pull });
    fc.assert(
      fc.property(steps, (gradients) => {
        let weights = [1, -2, 0.5];
        let trace = [0, 0, 0];
        gradients.forEach((step, t) => {
          const rate = rateAt(learningRate, t);
          const pulled = step.map((g, i) =>
            pull === 0 ? g : f32(g + f32(weights[i]! * f32(pull))),
          );
          const push = (to: number[]) => pulled.map((g, i) => f32(g + f32(to[i]! * f32(decay))));
          if (decay !== 0) trace = push(trace);
          const updates = decay === 0 ? pulled : nesterov ? push(trace) : trace;
          weights = weights.map((w, i) => f32(w + f32(updates[i]! * -rate)));
        });
        const result = run(
          optimizer,
          [[1, -2, 0.5]],
          gradients.map((step) => [step]),
        );
        expect(result.weights).toEqual([weights]);
        expect(result.rates).toEqual(gradients.map((_, t) => rateAt(learningRate, t)));
      }),
    );
  });
});

test('a chain applies its parts in order, each with its own state', () => {
  const parts = [weightDecay(0.1), momentum(0.5), scaleBy(constant(1)), scaleBy(constant(2))];
  const { state, weights, rates } = run(chain(...parts), [[1], [2]], [[[1], [0]]]);
  expect(state.map(({ name, value }) => [name, ...valuesOf(value)])).toEqual([
    ['momentum/w0', f32(1.1)],
    ['momentum/w1', f32(0.2)],
    ['step', 1],
    ['step', 1],
  ]);
  expect(weights).toEqual([[f32(1 + f32(1.1) * 2)], [f32(2 + f32(0.2) * 2)]]);
  expect(rates).toEqual([2]);
});

test('an empty chain adds the gradient to the weights', () => {
  const { state, weights, rates } = run(chain(), [[1]], [[[3]]]);
  expect({ state, weights, rates }).toEqual({ state: [], weights: [[4]], rates: [] });
});
