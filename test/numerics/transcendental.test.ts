import { describe, expect, test } from 'vitest';
import {
  bitsFromF32,
  f32FromBits,
  onNumber,
  onNumbers,
  roundNearestEven,
  truncateTo,
} from '../../src/numerics/f32-ops.ts';
import { bits, stream, uniform } from '../../src/numerics/random.ts';
import * as t from '../../src/numerics/transcendental.ts';

type Fn = (x: number) => number;
const logisticF64: Fn = (x) => 1 / (1 + Math.exp(-x));
const functions = {
  exp: { ours: onNumber(t.exp), exact: Math.exp },
  expm1: { ours: onNumber(t.expm1), exact: Math.expm1 },
  log: { ours: onNumber(t.log), exact: Math.log },
  log1p: { ours: onNumber(t.log1p), exact: Math.log1p },
  tanh: { ours: onNumber(t.tanh), exact: Math.tanh },
  logistic: { ours: onNumber(t.logistic), exact: logisticF64 },
  sin: { ours: onNumber(t.sin), exact: Math.sin },
  cos: { ours: onNumber(t.cos), exact: Math.cos },
} as const;
type Name = keyof typeof functions;

/**
 * Returns a unit in the last place of `x`: the distance between neighbouring f32 numbers around it.
 */
function ulp(x: number): number {
  const exponent = (bitsFromF32(Math.abs(x)) >>> 23) - 127;
  return 2 ** (Math.max(exponent, -126) - 23);
}

function error(found: number, exact: number): number {
  return Object.is(found, Math.fround(exact)) ? 0 : Math.abs(found - exact) / ulp(exact);
}

describe('errors in units in the last place are bounded', () => {
  const cases: [Name, from: number, to: number, ulps: number][] = [
    ['exp', -104, 88.7, 1],
    ['exp', -1, 1, 1],
    ['expm1', -20, 88.7, 2],
    ['expm1', -1, 1, 2],
    ['log', 0, 2, 1],
    ['log', 0, 3e38, 1],
    ['log', 0, 1.1e-38, 1],
    ['log1p', -1, 1, 3],
    ['log1p', 0, 1e6, 3],
    ['tanh', -11, 11, 2],
    ['tanh', -1, 1, 2],
    ['logistic', -104, 104, 2],
    ['logistic', -1.4, -1, 2],
    ['sin', -8192, 8192, 2],
    ['sin', -7, 7, 2],
    ['cos', -8192, 8192, 2],
    ['cos', -7, 7, 2],
  ];
  test.each(cases)('%s on %d … %d: at most %d', (name, from, to, ulps) => {
    const { ours, exact } = functions[name];
    const key = stream(1, `${name} ${from}`);
    let worst = { ulps: -1, x: 0 };
    for (let i = 0; i < 30_000; i++) {
      const x = Math.fround(from + (to - from) * uniform(key, i));
      const ulpsHere = error(ours(x), exact(x));
      if (!(ulpsHere <= worst.ulps)) worst = { ulps: ulpsHere, x };
    }
    expect(worst.ulps, `at ${worst.x}`).toBeLessThanOrEqual(ulps);
  });

  test('sine and cosine near multiples of π/2, where the reduction cancels most', () => {
    for (let k = 1; k <= 5215; k++) {
      const x = Math.fround((k * Math.PI) / 2);
      expect(error(functions.sin.ours(x), Math.sin(x)), `sin ${x}`).toBeLessThanOrEqual(2);
      expect(error(functions.cos.ours(x), Math.cos(x)), `cos ${x}`).toBeLessThanOrEqual(2);
    }
  });

  test('power: at most 3 units', () => {
    const ours = onNumbers(t.power);
    const key = stream(1, 'power');
    let worst = 0;
    for (let i = 0; i < 60_000; i++) {
      const x = Math.fround(2 ** (-140 + 267 * uniform(key, 2 * i)));
      const y = Math.fround((2 * uniform(key, 2 * i + 1) - 1) * (i % 2 === 0 ? 3 : 130));
      worst = Math.max(worst, error(ours(x, y), x ** y));
    }
    expect(worst).toBeLessThanOrEqual(3);
  });
});

describe('for special values', () => {
  const specials = [0, -0, 1, -1, Infinity, -Infinity, NaN, 2, -2, 0.5, 3, 1e38, -1e38, 2 ** -149];
  test.each(Object.keys(functions) as Name[])('%s agrees with the engine', (name) => {
    const { ours, exact } = functions[name];
    const far = name === 'sin' || name === 'cos' ? 8192 : Infinity;
    for (const x of specials) {
      if (Number.isFinite(x) && Math.abs(x) > far) continue;
      const [found, expected] = [ours(x), exact(x)];
      expect(error(found, expected) <= 2 || Object.is(found, expected), `${x}: ${found}`).toBe(
        true,
      );
    }
  });

  test('sine and cosine stay within ±1 for all finite numbers', () => {
    const key = stream(1, 'far');
    for (let i = 0; i < 10_000; i++) {
      const x = f32FromBits(bits(key, i) | 0);
      if (!Number.isFinite(x)) continue;
      expect(Math.abs(functions.sin.ours(x))).toBeLessThanOrEqual(1);
      expect(Math.abs(functions.cos.ours(x))).toBeLessThanOrEqual(1);
    }
  });

  test('power has the results of C99', () => {
    const ours = onNumbers(t.power);
    const values = [...specials, -0.5, -3, 2 ** 24, 2 ** 24 - 1, -(2 ** 24)];
    for (const x of values) {
      for (const y of values) {
        // In C99, 1 to the power of NaN is 1, and ±1 to an infinite power is 1. In JavaScript these
        // powers are NaN.
        const one = x === 1 || (x === -1 && Math.abs(y) === Infinity);
        const expected = one ? 1 : Math.fround(x ** y);
        const found = ours(x, y);
        expect(
          Object.is(found, expected) || error(found, x ** y) <= 3,
          `${x}^${y} = ${found}`,
        ).toBe(true);
      }
    }
  });
});

test('functions compute the recorded bits on every engine', () => {
  const digests = Object.fromEntries(
    Object.entries(functions).map(([name, { ours }]) => {
      const key = stream(2, name);
      let digest = 0;
      for (let i = 0; i < 4096; i++) {
        const word = bits(key, i);
        const value = ours(f32FromBits(((word & 0x8fff_ffff) | 0x3000_0000) & 0xbfff_ffff));
        const out = Number.isNaN(value) ? 0x7fc0_0000 : bitsFromF32(value);
        digest = (Math.imul(digest, 0x0100_0193) ^ out) | 0;
      }
      return [name, digest];
    }),
  );
  expect(digests).toMatchInlineSnapshot(`
    {
      "cos": -1188163587,
      "exp": 1784514323,
      "expm1": 2029796265,
      "log": -182484286,
      "log1p": -1024791638,
      "logistic": 92373523,
      "sin": 321956359,
      "tanh": -96674590,
    }
  `);
});

test('roundNearestEven rounds ties to even, and truncateTo saturates', () => {
  const key = stream(1, 'round');
  for (let i = 0; i < 10_000; i++) {
    const x = Math.fround((uniform(key, i) - 0.5) * 2 ** (i % 26));
    const low = Math.floor(x);
    const up = x - low > 0.5 || (x - low === 0.5 && low % 2 !== 0);
    const nearest = up ? low + 1 : low;
    expect(roundNearestEven(x)).toBe(nearest === 0 && x < 0 ? -0 : nearest);
  }
  expect([0.5, 1.5, -0.5, -2.5, -0, 2 ** 23 + 1].map(roundNearestEven)).toEqual([
    0,
    2,
    -0,
    -2,
    -0,
    2 ** 23 + 1,
  ]);
  expect(roundNearestEven(NaN)).toBeNaN();
  expect(
    [1.9, -1.9, 3e9, -3e9, NaN, -0.5].map((x) => truncateTo(x, -(2 ** 31), 2 ** 31 - 1)),
  ).toEqual([1, -1, 2 ** 31 - 1, -(2 ** 31), 0, 0]);
});
