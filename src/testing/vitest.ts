/**
 * Adds the matchers to the `expect` of Vitest, with their types. Import this module once, in a test
 * or in a setup file: `import 'tpu-pod/testing/vitest'`.
 */
import { expect } from 'vitest';
import { matchers, type RecoveryBounds } from './matchers.ts';

expect.extend(matchers);

/** The matchers as methods of `expect(…)`. */
interface PodMatchers {
  /**
   * Passes if the run committed every step once and in order, with the weights and the loss of the
   * same run without faults.
   */
  toMatchFaultFree(): void;
  /**
   * Passes if the run was completed and recovered from each of its faults within the bounds. Fails
   * for a run without faults and for a fault that was never injected.
   */
  toHaveRecovered(bounds?: RecoveryBounds): void;
  /**
   * Passes if, for at least one of the faults, the first report after it names Cloud TPU `tpu`. A
   * report of the fault `slow` is a named straggler. A report of any other fault is a loss, a
   * suspicion or a quarantine.
   */
  toBlame(tpu: number): void;
  /** Passes if all expectations of the plan hold, as `pod chaos run` judges them. */
  toHoldExpectations(): void;
}

declare module 'vitest' {
  // biome-ignore lint/suspicious/noExplicitAny: the declaration must repeat the one of Vitest.
  interface Matchers<T = any> extends PodMatchers {}
}
