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
   * Passes if the run committed every step once and in order, and if its weights and losses are
   * those of the same run without faults.
   */
  toMatchFaultFree(): void;
  /**
   * Passes if the run was completed and has recovered from each of its faults within the bounds.
   * Fails if the run has no faults, or if one of its faults was never injected.
   */
  toHaveRecovered(bounds?: RecoveryBounds): void;
  /**
   * Passes if, for at least one fault of the run, the first report after the fault names Cloud TPU
   * `tpu`. A fault `slow` is reported as a straggler. Any other fault of a Cloud TPU or a link is
   * reported as a loss, a suspicion or a quarantine.
   */
  toBlame(tpu: number): void;
  /** Passes if all expectations of the plan hold, by the same rules as in `pod chaos run`. */
  toHoldExpectations(): void;
}

declare module 'vitest' {
  // biome-ignore lint/suspicious/noExplicitAny: the declaration must repeat the one of Vitest.
  interface Matchers<T = any> extends PodMatchers {}
}
