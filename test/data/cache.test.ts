import fc from 'fast-check';
import { expect, test } from 'vitest';
import { cacheBytes, cached } from '../../src/data/cache.ts';
import type { Dataset } from '../../src/data/dataset.ts';
import { digits } from '../../src/data/digits.ts';

const size = 40;

test('a cached data set has the same samples with any amount of storage', () => {
  const plain = digits(1, { split: 'train', size });
  const indices = fc.array(fc.nat(size - 1), { maxLength: 100 });
  fc.assert(
    fc.property(fc.nat(60), indices, (room, order) => {
      const storage = new SharedArrayBuffer(cacheBytes(plain, room));
      const readers = [cached(plain, storage), cached(plain, storage)];
      order.forEach((index, i) => {
        const expected = read(plain, index, 3);
        expect(read(readers[i % 2]!, index, 3)).toEqual(expected);
      });
    }),
    { numRuns: 40 },
  );
});

test('a sample in storage is not drawn again; a sample without room is drawn each time', () => {
  let drawn = 0;
  const plain = digits(1, { split: 'train', size });
  const counting: Dataset = {
    ...plain,
    sample: (...args) => {
      drawn++;
      return plain.sample(...args);
    },
  };
  const remembering = cached(counting, new ArrayBuffer(cacheBytes(plain, 30)));
  for (let pass = 0; pass < 3; pass++) {
    for (let index = 0; index < size; index++) read(remembering, index, 0);
  }
  expect(drawn).toBe(30 + 3 * 10);
});

test('cacheBytes counts pixels and one byte of label a sample, up to the size of the data set', () => {
  const plain = digits(1, { split: 'train', size });
  expect(cacheBytes(plain, 10)).toBe(7850);
  expect(cacheBytes(plain, 1000)).toBe(785 * size);
});

function read(set: Dataset, index: number, offset: number): { label: number; pixels: Uint8Array } {
  const pixels = new Uint8Array(784 + offset);
  const label = set.sample(index, pixels, offset);
  return { label, pixels };
}
