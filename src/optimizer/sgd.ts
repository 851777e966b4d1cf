import { chain, type Optimizer } from './optimizer.ts';
import type { Schedule } from './schedule.ts';
import { momentum, scaleBy, weightDecay } from './transformations.ts';

/** Options of stochastic gradient descent. */
export interface SgdOptions {
  readonly learningRate: Schedule;
  /**
   * Factor of the momentum. A step multiplies the decaying sum of all earlier gradients by this
   * factor, then adds the new gradient to the sum. Default: 0, which means no momentum.
   */
  readonly momentum?: number;
  readonly nesterov?: boolean;
  /**
   * Weight decay: `weightDecay` times the parameter is added to the gradient, before momentum.
   * Default: 0.
   */
  readonly weightDecay?: number;
}

/**
 * Stochastic gradient descent. Applies weight decay first, then momentum, then the learning rate.
 */
export function sgd(options: SgdOptions): Optimizer {
  const { momentum: decay = 0, nesterov = false, weightDecay: decayOfWeights = 0 } = options;
  return chain(
    ...(decayOfWeights === 0 ? [] : [weightDecay(decayOfWeights)]),
    ...(decay === 0 ? [] : [momentum(decay, { nesterov })]),
    scaleBy(options.learningRate),
  );
}
