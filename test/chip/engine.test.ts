import { expect, test } from 'vitest';
import { enableRelaxedSimd, relaxedSimdSupported } from '../../src/chip/engine.ts';

test('relaxed SIMD is there once it was enabled, on every Node we support', () => {
  expect(enableRelaxedSimd()).toBe(true);
  expect(relaxedSimdSupported()).toBe(true);
});
