import fc from 'fast-check';
import { expect, test } from 'vitest';
import { scheduleNames } from '../../src/experiment/config.ts';
import { ratesOf, thirds } from '../../src/experiment/schedule.ts';

const settings = { learningRate: 1, warmUp: 0, globalBatch: 256 };

test('piecewise: the rate falls after one third and two thirds of the steps, rounded', () => {
  fc.assert(
    fc.property(fc.integer({ min: 3, max: 10_000_000 }), (steps) => {
      expect(thirds(steps)).toEqual([Math.round(steps / 3), Math.round((2 * steps) / 3)]);
    }),
  );
});

test('the first step of any short run has the full rate, and each fall has a step of its own', () => {
  const rates = (steps: number): number[] => {
    const of = ratesOf({ ...settings, schedule: 'piecewise' }, steps);
    return Array.from({ length: steps }, (_, step) => of.at(step));
  };
  const [tenth, hundredth] = [Math.fround(0.1), Math.fround(Math.fround(0.1) * Math.fround(0.1))];
  expect(rates(1)).toEqual([1]);
  expect(rates(2)).toEqual([1, tenth]);
  expect(rates(3)).toEqual([1, tenth, hundredth]);
  for (const schedule of scheduleNames) {
    for (const steps of [1, 2, 3, 10]) {
      expect(ratesOf({ ...settings, schedule }, steps).at(0)).toBe(1);
    }
  }
});

test('a warm-up ends within the run, and the last step has the full rate', () => {
  const share = fc.double({ min: 0, max: 1, noNaN: true });
  fc.assert(
    fc.property(share, fc.integer({ min: 1, max: 500 }), (warmUp, steps) => {
      const of = ratesOf({ ...settings, schedule: 'constant', warmUp }, steps);
      expect(of.at(steps - 1)).toBe(1);
      for (let step = 0; step < steps; step++) expect(of.at(step)).toBeGreaterThan(0);
    }),
  );
});
