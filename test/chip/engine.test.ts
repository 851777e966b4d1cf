import { expect, test } from 'vitest';
import { enableRelaxedSimd, relaxedSimdSupported } from '../../src/chip/engine.ts';

test('relaxed SIMD can be enabled on every supported version of Node', () => {
  expect(enableRelaxedSimd()).toBe(true);
  expect(relaxedSimdSupported()).toBe(true);
});
