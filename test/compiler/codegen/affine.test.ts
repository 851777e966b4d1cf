import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  type Affine,
  clamped,
  constant,
  linear,
  plus,
  quotient,
  rangeOf,
  shifted,
  term,
  times,
  type Variable,
  variable,
} from '../../../src/compiler/codegen/affine.ts';
import { at } from '../../../src/numerics/assert.ts';
import { product, stridesOf } from '../../../src/numerics/shape.ts';

type Counts = ReadonlyMap<string, number>;

/**
 * Returns the value of the affine expression `a` by its definition. `counts` has the value of each
 * loop counter.
 */
function worth(a: Affine, counts: Counts): number {
  return a.terms.reduce((sum, { atom, coefficient }) => {
    if (atom.kind === 'variable') return sum + coefficient * counts.get(atom.key)!;
    const of = worth(atom.of, counts);
    if (atom.kind === 'clamped') return sum + coefficient * within(of, atom.low, atom.high);
    const whole = Math.floor(of / atom.divisor);
    return sum + coefficient * (atom.modulus === Infinity ? whole : whole % atom.modulus);
  }, a.constant);
}

function within(value: number, low: number, high: number): number {
  return Math.min(Math.max(value, low), high);
}

function forEachCount(counters: readonly Variable[], visit: (counts: Counts) => void): void {
  const sizes = counters.map(({ high }) => high + 1);
  const strides = stridesOf(sizes);
  for (let flat = 0; flat < product(sizes); flat++) {
    const count = (d: number): number => Math.floor(flat / at(strides, d)) % at(sizes, d);
    visit(new Map(counters.map(({ key }, d) => [key, count(d)])));
  }
}

const counters = fc
  .array(fc.integer({ min: 1, max: 6 }), { minLength: 1, maxLength: 3 })
  .map((sizes) => sizes.map((size, d) => variable(`v${d}`, size)));

test('simplification of sums, multiples, quotients and clamps keeps their values', () => {
  const small = fc.integer({ min: 1, max: 7 });
  fc.assert(
    fc.property(counters, fc.array(small, { minLength: 6, maxLength: 6 }), (its, n) => {
      const [a, b, c, d, e, f] = n as [number, number, number, number, number, number];
      const sum = its.reduce(
        (all, it, i) => plus(all, times(term(it), at(n, i % n.length))),
        constant(a),
      );
      const high = quotient(sum, b, c);
      const low = clamped(shifted(times(sum, -1), d * e), 0, f);
      const both = plus(times(high, e), times(low, -b));
      forEachCount(its, (counts) => {
        const is = worth(sum, counts);
        const highIs = Math.floor(is / b) % c;
        const lowIs = within(d * e - is, 0, f);
        expect(worth(both, counts)).toBe(highIs * e - lowIs * b);
        expect(worth(both, counts)).toBeGreaterThanOrEqual(rangeOf(both).low);
        expect(worth(both, counts)).toBeLessThanOrEqual(rangeOf(both).high);
      });
    }),
  );
});

test('a flat index split into indices and joined again simplifies to the flat index', () => {
  const sizes = fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 1, maxLength: 4 });
  fc.assert(
    fc.property(sizes, (dims) => {
      const place = term(variable('v', product(dims)));
      const strides = stridesOf(dims);
      const digits = dims.map((size, d) => quotient(place, at(strides, d), size));
      expect(linear(digits, strides).key).toBe(place.key);
    }),
  );
});

test('a dimension that is split into two counters needs no quotients', () => {
  const [outer, inner] = [variable('o', 144), variable('i', 64)];
  const place = plus(times(term(outer), 64), term(inner));
  expect(quotient(place, 64).key).toBe(term(outer).key);
  expect(quotient(place, 1, 64).key).toBe(term(inner).key);
});
