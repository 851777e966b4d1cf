import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { module, parameter } from '../../src/hlo/build.ts';
import { evaluate } from '../../src/hlo/evaluate.ts';
import { literal, valueAt } from '../../src/numerics/literal.ts';
import { arrayShape } from '../../src/numerics/shape.ts';
import {
  constant,
  cosine,
  linearScaling,
  piecewise,
  rateAt,
  rateOf,
  type Schedule,
  warmUp,
} from '../../src/optimizer/schedule.ts';

const schedules = fc.letrec<{ any: Schedule; base: Schedule }>((tie) => ({
  base: fc.double({ min: 1e-4, max: 10, noNaN: true }).map(constant),
  any: fc.oneof(
    { maxDepth: 4 },
    tie('base'),
    fc.tuple(fc.integer({ min: 1, max: 70000 }), tie('any')).map((x) => linearScaling(...x)),
    fc.tuple(fc.integer({ min: 0, max: 300 }), tie('any')).map((x) => warmUp(...x)),
    fc.tuple(fc.integer({ min: 1, max: 5000 }), tie('any')).map((x) => cosine(...x)),
    fc
      .tuple(
        fc.array(fc.tuple(fc.nat({ max: 1000 }), fc.double({ min: 0, max: 2, noNaN: true }))),
        tie('any'),
      )
      .map(([list, then]) =>
        piecewise(
          list.map(([boundary]) => boundary),
          list.map(([, factor]) => factor),
          then,
        ),
      ),
  ),
})).any;

/** Computes the learning rate of a step with an HLO program, as a Cloud TPU does. */
function onDevice(schedule: Schedule, step: number): number {
  const counter = parameter(0, arrayShape('s32', []));
  const program = module('rate', [counter], rateOf(schedule, counter));
  const { values } = evaluate(program, { parameters: [literal('s32', [], [step])] });
  return valueAt(values[0]!, 0);
}

test('host and device compute the same bits of a learning rate', () => {
  fc.assert(
    fc.property(schedules, fc.nat({ max: 6000 }), (schedule, step) => {
      expect(rateAt(schedule, step)).toBe(onDevice(schedule, step));
    }),
    { numRuns: 300 },
  );
});

describe('a schedule has the rates of its definition', () => {
  const f32 = Math.fround;

  test('constant', () => {
    expect(rateAt(constant(0.1), 7)).toBe(f32(0.1));
  });

  test('linear scaling: rate × batch / 256', () => {
    expect(rateAt(linearScaling(1024, constant(0.1)), 0)).toBe(f32(f32(0.1) * 4));
  });

  test('warm-up: rises in equal parts and reaches the full rate in its last step', () => {
    const schedule = warmUp(4, constant(2));
    expect([0, 1, 2, 3, 4, 100].map((step) => rateAt(schedule, step))).toEqual([
      0.5, 1, 1.5, 2, 2, 2,
    ]);
    expect(rateAt(warmUp(0, constant(2)), 0)).toBe(2);
  });

  test('piecewise: each factor applies from its boundary on', () => {
    const schedule = piecewise([2, 4], [0.5, 0.25], constant(8));
    expect([0, 1, 2, 3, 4, 5].map((step) => rateAt(schedule, step))).toEqual([8, 8, 4, 4, 1, 1]);
  });

  test('cosine: falls from the full rate to 0 along half a cosine', () => {
    const schedule = cosine(100, constant(2));
    fc.assert(
      fc.property(fc.nat({ max: 100 }), (step) => {
        const exact = 2 * 0.5 * (1 + Math.cos((Math.PI * step) / 100));
        expect(Math.abs(rateAt(schedule, step) - exact)).toBeLessThan(1e-6);
      }),
    );
    expect([0, 100, 200].map((step) => rateAt(schedule, step))).toEqual([2, 0, 0]);
  });
});
