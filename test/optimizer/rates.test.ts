import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Rates } from '../../src/optimizer/rates.ts';
import {
  constant,
  cosine,
  linearScaling,
  piecewise,
  rateAt,
} from '../../src/optimizer/schedule.ts';

test('a digest does not depend on earlier calls of digest', () => {
  const steps = fc.array(fc.nat(40_000), { minLength: 1, maxLength: 5 });
  fc.assert(
    fc.property(steps, (asked) => {
      const rates = new Rates(cosine(40_000, constant(0.1)));
      for (const count of asked) {
        expect(rates.digest(count)).toBe(new Rates(cosine(40_000, constant(0.1))).digest(count));
      }
    }),
    { numRuns: 10 },
  );
});

test('equal rates have equal digests even if they come from different schedules', () => {
  const [plain, scaled] = [new Rates(constant(0.5)), new Rates(linearScaling(512, constant(0.25)))];
  expect(scaled.digest(1000)).toBe(plain.digest(1000));
  const falling = new Rates(piecewise([7], [0.1], constant(0.5)));
  expect(falling.digest(7)).toBe(plain.digest(7));
  expect(falling.digest(8)).not.toBe(plain.digest(8));
  expect(new Rates(constant(0.5)).digest(3)).not.toBe(new Rates(constant(0.5)).digest(4));
});

test('a rate is the f32 that the device computes', () => {
  const schedule = cosine(9, constant(0.3));
  const rates = new Rates(schedule);
  for (let step = 0; step < 9; step++) expect(rates.at(step)).toBe(rateAt(schedule, step));
});
