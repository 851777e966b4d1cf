import { assert } from '../numerics/assert.ts';
import { Rates } from '../optimizer/rates.ts';
import {
  constant,
  cosine,
  linearScaling,
  piecewise,
  type Schedule,
  warmUp,
} from '../optimizer/schedule.ts';
import type { TrainConfig } from './config.ts';

/** The settings that determine the learning rates of a run, together with its number of steps. */
export type RateSettings = Pick<
  TrainConfig,
  'schedule' | 'learningRate' | 'warmUp' | 'globalBatch'
>;

/** Returns the learning rate of a run of `steps` steps as a function of the step. */
export function scheduleOf(settings: RateSettings, steps: number): Schedule {
  const rate = constant(settings.learningRate);
  const warmed = (then: Schedule): Schedule => warmUp(Math.round(settings.warmUp * steps), then);
  switch (settings.schedule) {
    case 'constant':
      return warmed(rate);
    case 'linear-scaling':
      return warmed(linearScaling(settings.globalBatch, rate));
    case 'piecewise':
      return warmed(piecewise(thirds(steps), [0.1, 0.1], rate));
    case 'cosine':
      return warmed(cosine(steps, rate));
  }
}

/**
 * Returns the learning rates of a run of `steps` steps as values, which can be compared and hashed.
 */
export function ratesOf(settings: RateSettings, steps: number): Rates {
  return new Rates(scheduleOf(settings, steps));
}

/**
 * Returns the two steps at which the learning rate falls to a tenth of its value: after a third of
 * the run and after two thirds, as in the recipe of ResNet-50. In a run of fewer than three steps,
 * the two steps are 1 and 2. So step 0, the first step, always has the full rate.
 */
export function thirds(steps: number): [first: number, second: number] {
  assert(steps >= 1, `thirds of ${steps} steps`);
  const first = Math.max(1, Math.round(steps / 3));
  return [first, Math.max(first + 1, Math.round((2 * steps) / 3))];
}
