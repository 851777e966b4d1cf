import { chain, type Optimizer } from './optimizer.ts';
import type { Schedule } from './schedule.ts';
import { momentum, scaleBy, weightDecay } from './transformations.ts';

/** The settings of SGD. */
export interface SgdOptions {
  readonly learningRate: Schedule;
  /** Decay of the momentum trace. Default: 0, no momentum. */
  readonly momentum?: number;
  readonly nesterov?: boolean;
  /** Factor of the parameter that is added to the gradient before momentum. Default: 0. */
  readonly weightDecay?: number;
}

/** Stochastic gradient descent: weight decay, then momentum, then the learning rate. */
export function sgd(options: SgdOptions): Optimizer {
  const { momentum: decay = 0, nesterov = false, weightDecay: decayOfWeights = 0 } = options;
  return chain(
    ...(decayOfWeights === 0 ? [] : [weightDecay(decayOfWeights)]),
    ...(decay === 0 ? [] : [momentum(decay, { nesterov })]),
    scaleBy(options.learningRate),
  );
}
