import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { vectorKernels } from '../../../src/chip/kernels/vector.ts';
import { digest } from '../../../src/numerics/digest.ts';

const memory = new WebAssembly.Memory({ initial: 4, maximum: 65536, shared: true });
const kernels = vectorKernels(memory);
const words = new Uint32Array(memory.buffer);
const numbers = new Float32Array(memory.buffer);
const count = fc.integer({ min: 0, max: 100 });
const place = fc.integer({ min: 0, max: 5 });

describe('kernels over words', () => {
  test('copy, fill and add write exactly the words of their targets', () => {
    fc.assert(
      fc.property(count, place, place, fc.float({ noNaN: true }), (n, from, to, value) => {
        words.forEach((_, i) => {
          if (i < 1000) numbers[i] = i / 3;
        });
        const [a, b, c] = [from, 200 + to, 400 + from];
        kernels.copy(b * 4, a * 4, n);
        kernels.fill(c * 4, n, value);
        kernels.add((600 + to) * 4, b * 4, c * 4, n);
        const expected = Float32Array.from({ length: 1000 }, (_, i) => i / 3);
        expected.copyWithin(b, a, a + n);
        expected.fill(value, c, c + n);
        for (let i = 0; i < n; i++) expected[600 + to + i] = expected[b + i]! + expected[c + i]!;
        expect(numbers.slice(0, 1000)).toEqual(expected);
      }),
    );
  });
});

describe('digest', () => {
  const word = fc.oneof(
    fc.integer({ min: 0, max: 0xffff_ffff }),
    fc.constantFrom(0, 0x8000_0000, 0x7f80_0000, 0x7fc0_0001, 0xffff_ffff, 0xff80_0001),
  );
  const array = fc.array(word, { maxLength: 70 }).map((values) => Uint32Array.from(values));
  const seed = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });

  test('the kernel computes the digest of the implementation in TypeScript', () => {
    fc.assert(
      fc.property(array, place, seed, (values, at, start) => {
        words.set(values, at);
        const found = BigInt.asUintN(64, kernels.digest(at * 4, values.length, start));
        expect(found).toBe(digest(values, start));
      }),
      { numRuns: 500 },
    );
  });
  test('changes with a flipped bit, with two swapped words, and with another zero', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 0, max: 0x7f00_0000 }), { minLength: 2, maxLength: 70 }),
        fc.nat(),
        fc.nat(),
        fc.integer({ min: 0, max: 22 }),
        (values, i, j, bit) => {
          const before = Uint32Array.from(values);
          const [a, b] = [i % values.length, j % values.length];
          const flipped = before.slice();
          flipped[a]! ^= 1 << bit;
          expect(digest(flipped)).not.toBe(digest(before));
          const swapped = before.slice();
          [swapped[a], swapped[b]] = [before[b]!, before[a]!];
          if (before[a] !== before[b]) expect(digest(swapped)).not.toBe(digest(before));
          expect(digest(Uint32Array.of(...before, 0))).not.toBe(digest(before));
        },
      ),
      { numRuns: 500 },
    );
  });
  test('two changed signs do not cancel', () => {
    const one = new Uint32Array(64).fill(0x3f80_0000);
    const flipped = one.slice();
    flipped[3] = 0xbf80_0000;
    flipped[19] = 0xbf80_0000;
    expect(digest(flipped)).not.toBe(digest(one));
  });
  test('is equal for all NaNs, and differs for −0 and +0', () => {
    expect(digest(Uint32Array.of(0x7fc0_0000))).toBe(digest(Uint32Array.of(0xff80_0001)));
    expect(digest(Uint32Array.of(0))).not.toBe(digest(Uint32Array.of(0x8000_0000)));
  });
});

describe('philox', () => {
  const draw = (n: number, key: readonly number[], counter: readonly number[]) => {
    words.fill(7, 0, 64);
    const [k0, k1] = key as [number, number];
    const [c0, c1, c2, c3] = counter as [number, number, number, number];
    kernels.philox(0, n, k0, k1, c0, c1, c2, c3);
    return Array.from(words.slice(0, n + 1));
  };
  test('the kernel has the known answers of its authors', () => {
    const ones = 0xffff_ffff;
    expect(draw(4, [0, 0], [0, 0, 0, 0])).toEqual([
      0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8, 7,
    ]);
    expect(draw(4, [ones, ones], [ones, ones, ones, ones])).toEqual([
      0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd, 7,
    ]);
    expect(
      draw(4, [0xa4093822, 0x299f31d0], [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344]),
    ).toEqual([0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1, 7]);
  });
  test('a long draw has its blocks in order, carries the counter, and writes no more words', () => {
    const start = [0xffff_ffff, 0xffff_ffff, 5, 9];
    const long = draw(7, [1, 2], start);
    expect(long.slice(0, 4)).toEqual(draw(4, [1, 2], start).slice(0, 4));
    expect(long.slice(4)).toEqual([...draw(3, [1, 2], [0, 0, 6, 9]).slice(0, 3), 7]);
  });
});
