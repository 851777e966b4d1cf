import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Pair, threefry } from '../../src/numerics/threefry.ts';

const u32 = fc.integer({ min: 0, max: 2 ** 32 - 1 });

describe('Threefry 2×32-20', () => {
  test.each([
    { counter: [0, 0], key: [0, 0], words: [0x6b200159, 0x99ba4efe] },
    {
      counter: [0xffffffff, 0xffffffff],
      key: [0xffffffff, 0xffffffff],
      words: [0x1cb996fc, 0xbb002be7],
    },
    {
      counter: [0x243f6a88, 0x85a308d3],
      key: [0x13198a2e, 0x03707344],
      words: [0xc4923a9c, 0x483df7a0],
    },
  ] as const)('known answer of Random123 for $counter', ({ counter, key, words }) => {
    expect(threefry(counter, key)).toEqual(words);
  });

  test('equals an implementation with big integers, round by round', () => {
    fc.assert(
      fc.property(fc.tuple(u32, u32), fc.tuple(u32, u32), (counter, key) => {
        expect(threefry(counter, key)).toEqual(plainly(counter, key));
      }),
    );
  });
});

function plainly(counter: Pair, key: Pair): number[] {
  const mask = 2n ** 32n - 1n;
  const keys = [BigInt(key[0]), BigInt(key[1]), 0x1bd11bdan ^ BigInt(key[0]) ^ BigInt(key[1])];
  let [a, b] = [(BigInt(counter[0]) + keys[0]!) & mask, (BigInt(counter[1]) + keys[1]!) & mask];
  const rotations = [13n, 15n, 26n, 6n, 17n, 29n, 16n, 24n];
  for (let round = 0; round < 20; round++) {
    const by = rotations[round % 8]!;
    a = (a + b) & mask;
    b = ((b * 2n ** by) & mask) + b / 2n ** (32n - by);
    b ^= a;
    if (round % 4 !== 3) continue;
    const injection = (round + 1) / 4;
    a = (a + keys[injection % 3]!) & mask;
    b = (b + keys[(injection + 1) % 3]! + BigInt(injection)) & mask;
  }
  return [Number(a), Number(b)];
}
