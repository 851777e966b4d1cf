import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { linearScale, logScale, type Scale, timeScale } from '../../src/picture/scale.ts';

const value = fc.double({ min: -1e15, max: 1e15, noNaN: true });
const length = fc.double({ min: 0, max: 1e13, noNaN: true });
const range = { from: 100, to: 1100 };

/** Lists of periods in order of time. A period has the times of its begin and end, in ms. */
const pieces = fc.array(fc.tuple(length, length), { minLength: 1, maxLength: 6 }).map((all) => {
  let ms = 0;
  return all.map(([pause, long]) => {
    const from = ms + pause;
    ms = from + long;
    return { from, to: ms };
  });
});

const scales: fc.Arbitrary<Scale> = fc.oneof(
  fc.tuple(value, length).map(([from, long]) => linearScale({ from, to: from + long }, range)),
  fc
    .tuple(
      fc.double({ min: 1e-3, max: 1e9, noNaN: true }),
      fc.double({ min: 1, max: 1e9, noNaN: true }),
    )
    .map(([from, factor]) => logScale({ from, to: from * factor }, range)),
  pieces.map((all) => timeScale(all, range)),
);

describe('a scale', () => {
  test('is monotonic and stays in its range, for values outside too', () => {
    fc.assert(
      fc.property(scales, value, value, (scale, a, b) => {
        const [low, high] = [scale.at(Math.min(a, b)), scale.at(Math.max(a, b))];
        expect(low).toBeLessThanOrEqual(high + 1e-9);
        expect(low).toBeGreaterThanOrEqual(range.from - 1e-9);
        expect(high).toBeLessThanOrEqual(range.to + 1e-9);
      }),
    );
  });

  test('has labels in order, in its range, not too many', () => {
    fc.assert(
      fc.property(scales, ({ ticks }) => {
        const places = ticks.map(({ at }) => at);
        expect(places).toEqual([...places].sort((a, b) => a - b));
        for (const at of places)
          expect(at >= range.from - 1e-6 && at <= range.to + 1e-6).toBe(true);
        expect(ticks.length).toBeLessThan(40);
        expect(ticks.map(({ label }) => label).join()).not.toMatch(/NaN|Infinity|undefined/);
      }),
    );
  });

  test('refuses a value that is not finite', () => {
    const scale = linearScale({ from: 0, to: 1 }, range);
    expect(() => scale.at(Number.NaN)).toThrow(/finite/);
    expect(() => linearScale({ from: 0, to: Number.POSITIVE_INFINITY }, range)).toThrow(/finite/);
  });
});

describe('a scale of times', () => {
  test('chooses the unit and leaves out the times between its pieces', () => {
    const day = 86_400_000;
    const scale = timeScale(
      [
        { from: 0, to: 10_000 },
        { from: day, to: day + 10_000 },
      ],
      range,
    );
    expect(scale.unit).toBe('s');
    expect(scale.cuts).toHaveLength(1);
    expect(scale.at(10_000)).toBeCloseTo(593, 5);
    expect(scale.at(day / 2)).toBeCloseTo(607, 5);
    expect(scale.at(day + 10_000)).toBe(1100);
    expect(scale.at(day + 5000) - scale.at(day)).toBeCloseTo(scale.at(5000) - scale.at(0), 6);
  });

  test.each([
    [5, 'ms'],
    [2999, 'ms'],
    [3000, 's'],
    [200_000, 'min'],
    [20_000_000, 'h'],
  ])('shows %s ms in %s', (to, unit) => {
    expect(timeScale([{ from: 0, to }], range).unit).toBe(unit);
  });
});

test('a logarithmic scale has equal distances for equal ratios', () => {
  const scale = logScale({ from: 1, to: 1000 }, { from: 300, to: 0 });
  expect(scale.at(10)).toBeCloseTo(200, 9);
  expect(scale.at(0)).toBe(300);
  expect(scale.ticks.map(({ label }) => label)).toEqual(['1', '10', '100', '1000']);
});
