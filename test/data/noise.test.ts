import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Noise } from '../../src/data/noise.ts';

test('the sequence equals that of the published xoshiro128++ generator', () => {
  // The first seven words that xoshiro128++ draws from the state 1, 2, 3, 4, as in the tests of the
  // Rust crate rand_xoshiro.
  const expected = [641, 1573767, 3222811527, 3517856514, 836907274, 4247214768, 3867114732];
  const noise = started([1, 2, 3, 4]);
  expect(expected.map(() => noise.word() >>> 0)).toEqual(expected);
});

test('the same seed words start the same sequence, whatever was drawn before', () => {
  fc.assert(
    fc.property(fourWords, fc.nat(50), (words, drawn) => {
      const used = started([9, 9, 9, 9]);
      for (let i = 0; i < drawn; i++) used.word();
      used.start(words);
      const fresh = started(words);
      for (let i = 0; i < 20; i++) expect(used.word()).toBe(fresh.word());
    }),
  );
});

test('numbers stay in their ranges', () => {
  fc.assert(
    fc.property(fourWords, (words) => {
      const noise = started(words);
      for (let i = 0; i < 20; i++) {
        expect(inRange(noise.between(3, 5), 3, 5)).toBe(true);
        expect(inRange(noise.around(2), -2, 2)).toBe(true);
        expect(inRange(noise.below(4), 0, 4)).toBe(true);
      }
    }),
  );
});

test('fillBell writes scaled sums of the bytes of a word, with mean 0 and deviation 1', () => {
  const values = new Float64Array(100_000);
  const noise = started([1, 2, 3, 4]);
  noise.fillBell(values);
  const words = started([1, 2, 3, 4]);
  for (const value of values) {
    const word = words.word();
    const bytes = [0, 8, 16, 24].map((shift) => (word >>> shift) & 255);
    const centred = bytes.reduce((sum, byte) => sum + byte, 0) - 510;
    expect(value).toBe(centred * (1 / Math.sqrt((65536 - 1) / 3)));
  }
  expect(noise.word()).toBe(words.word());
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const square = values.reduce((sum, value) => sum + value * value, 0) / values.length;
  expect(mean).toBeCloseTo(0, 1);
  expect(square).toBeCloseTo(1, 1);
});

const fourWords = fc.array(fc.integer({ min: 1, max: 2 ** 32 - 1 }), {
  minLength: 4,
  maxLength: 4,
});

function started(words: readonly number[]): Noise {
  const noise = new Noise();
  noise.start(words);
  return noise;
}

function inRange(value: number, low: number, high: number): boolean {
  return value >= low && value < high;
}
