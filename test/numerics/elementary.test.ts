import { describe, expect, test } from 'vitest';
import { atan2 } from '../../src/numerics/arc-tangent.ts';
import { cbrt } from '../../src/numerics/cube-root.ts';
import { erf } from '../../src/numerics/error-function.ts';
import {
  bitsFromF32,
  f32FromBits,
  onNumber,
  onNumbers,
  roundNearestAway,
} from '../../src/numerics/f32-ops.ts';
import { bits, stream, uniform } from '../../src/numerics/random.ts';
import { tan } from '../../src/numerics/tangent.ts';
import { erfF64 } from './erf-f64.ts';

type Fn = (x: number) => number;
const functions = {
  cbrt: { ours: onNumber(cbrt), exact: Math.cbrt, far: Infinity },
  tan: { ours: onNumber(tan), exact: Math.tan, far: 8192 },
  erf: { ours: onNumber(erf), exact: erfF64, far: Infinity },
} as const;
type Name = keyof typeof functions;
const ofPoint = onNumbers(atan2);

/** Distance in steps of f32 between a result and the f32 nearest to the exact value. */
function steps(found: number, exact: number): number {
  const nearest = Math.fround(exact);
  if (Object.is(found, nearest)) return 0;
  if (Number.isNaN(found) || Number.isNaN(nearest)) return Infinity;
  if (Math.sign(found) !== Math.sign(nearest)) return Infinity;
  return Math.abs(bitsFromF32(found) - bitsFromF32(nearest));
}

/** A float with random bits: all exponents are equally likely. */
function anyFloat(key: Parameters<typeof bits>[0], i: number): number {
  return f32FromBits(bits(key, i) | 0);
}

const specials = [0, -0, 1, -1, Infinity, -Infinity, NaN, 2 ** -149, -(2 ** -149), 2 ** -126, 3e38];

describe('the result is at most one f32 away from the correctly rounded one', () => {
  const ranges: [Name, from: number, to: number][] = [
    ['cbrt', -8, 8],
    ['cbrt', 0, 2 ** -126],
    ['tan', -8192, 8192],
    ['tan', -2, 2],
    ['erf', -4.2, 4.2],
    ['erf', 0.8, 1.2],
  ];
  test.each(ranges)('%s on %d … %d', (name, from, to) => {
    const key = stream(1, `${name} ${from}`);
    expectNear(name, (i) => Math.fround(from + (to - from) * uniform(key, i)));
  });
  test.each(Object.keys(functions) as Name[])('%s over all exponents', (name) => {
    const key = stream(2, name);
    expectNear(name, (i) => anyFloat(key, i));
  });
  test('tan near multiples of π/4, where the reduction cancels most', () => {
    expectNear('tan', (i) => Math.fround((((i % 10430) + 1) * Math.PI) / 4));
  });
  test('atan2, over all exponents, near the diagonals and near the axes', () => {
    const key = stream(3, 'atan2');
    for (let i = 0; i < 40_000; i++) {
      const y = anyFloat(key, 2 * i);
      const [u, far] = [2 * uniform(key, 2 * i + 1) - 1, anyFloat(key, 2 * i + 1)];
      for (const x of [far, u, y * u, y * (u < 0 ? -1 : 1) * 2 ** (u * 30), y * (1 + u / 16)]) {
        const rounded = Math.fround(x);
        const found = steps(ofPoint(y, rounded), Math.atan2(y, rounded));
        expect(found, `atan2(${y}, ${rounded})`).toBeLessThanOrEqual(1);
      }
    }
  });
});

describe('for special values', () => {
  test.each(Object.keys(functions) as Name[])('%s has the result of the definition', (name) => {
    const { ours, exact, far } = functions[name];
    for (const x of specials.map(Math.fround)) {
      if (Number.isFinite(x) && Math.abs(x) > far) continue;
      const isExact = !Number.isFinite(x) || x === 0;
      expect(steps(ours(x), exact(x)), `${x}`).toBeLessThanOrEqual(isExact ? 0 : 1);
    }
  });
  test('atan2 has the results of C99', () => {
    for (const y of specials.map(Math.fround)) {
      for (const x of specials.map(Math.fround)) {
        const expected = Math.fround(Math.atan2(y, x));
        expect(ofPoint(y, x), `atan2(${y}, ${x})`).toBe(expected);
      }
    }
  });
  test('cbrt of a cube is its root', () => {
    for (let n = -250; n <= 250; n++) expect(functions.cbrt.ours(n ** 3)).toBe(n);
  });
});

test('roundNearestAway rounds ties away from zero', () => {
  const halves = [0.5, 1.5, 2.5, -0.5, -2.5, -0.25, -0, 2 ** 23 + 1];
  expect(halves.map(roundNearestAway)).toEqual([1, 2, 3, -1, -3, -0, -0, 2 ** 23 + 1]);
  expect(roundNearestAway(Math.fround(0.49999997))).toBe(0);
  expect([Infinity, -Infinity, NaN].map(roundNearestAway)).toEqual([Infinity, -Infinity, NaN]);
});

test('functions compute the recorded bits on every engine', () => {
  const all: Record<string, Fn> = {
    ...Object.fromEntries(Object.entries(functions).map(([name, { ours }]) => [name, ours])),
    atan2: (x) => ofPoint(x, 0.75),
  };
  const digests = Object.entries(all).map(([name, ours]) => {
    const key = stream(2, name);
    let digest = 0;
    for (let i = 0; i < 4096; i++) {
      const value = ours(f32FromBits(((bits(key, i) & 0x8fff_ffff) | 0x3000_0000) & 0xbfff_ffff));
      const out = Number.isNaN(value) ? 0x7fc0_0000 : bitsFromF32(value);
      digest = (Math.imul(digest, 0x0100_0193) ^ out) | 0;
    }
    return [name, digest];
  });
  expect(Object.fromEntries(digests)).toMatchInlineSnapshot(`
    {
      "atan2": -243199354,
      "cbrt": 886377223,
      "erf": 1373002740,
      "tan": -449189903,
    }
  `);
});

function expectNear(name: Name, draw: (i: number) => number): void {
  const { ours, exact, far } = functions[name];
  let worst = { steps: 0, x: 0 };
  for (let i = 0; i < 40_000; i++) {
    const x = draw(i);
    if (Number.isFinite(x) && Math.abs(x) > far) continue;
    const here = steps(ours(x), exact(x));
    if (!(here <= worst.steps)) worst = { steps: here, x };
  }
  expect(worst.steps, `at ${worst.x}`).toBeLessThanOrEqual(1);
}
