import { chain, type Optimizer } from './optimizer.ts';
import type { Schedule } from './schedule.ts';
import { momentum, scaleBy, weightDecay } from './transformations.ts';

/** The settings of SGD. */
export interface SgdOptions {
  readonly learningRate: Schedule;
  /** None unless given. */
  readonly momentum?: number;
  readonly nesterov?: boolean;
  /** None unless given; added to the gradient before momentum. */
  readonly weightDecay?: number;
}

/** Stochastic gradient descent. */
export function sgd(options: SgdOptions): Optimizer {
  const { momentum: decay = 0, nesterov = false, weightDecay: pull = 0 } = options;
  return chain(
    ...(pull === 0 ? [] : [weightDecay(pull)]),
    ...(decay === 0 ? [] : [momentum(decay, { nesterov })]),
    scaleBy(options.learningRate),
  );
}
