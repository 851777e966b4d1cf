import fc from 'fast-check';
import { expect, test } from 'vitest';
import { permutation, permute } from '../../src/data/order.ts';

test('the order is a permutation for every size from 1 to 300', () => {
  for (let size = 1; size <= 300; size++) expect(isPermutation(orderOf(7, 0, size))).toBe(true);
});

test('the order is a permutation for every seed, epoch and size', () => {
  fc.assert(
    fc.property(seeds, epochs, fc.integer({ min: 1, max: 5000 }), (seed, epoch, size) => {
      expect(isPermutation(orderOf(seed, epoch, size))).toBe(true);
    }),
    { numRuns: 50 },
  );
});

test('large orders stay in range and map different indices to different samples', () => {
  fc.assert(
    fc.property(seeds, epochs, fc.integer({ min: 2 ** 31, max: 2 ** 32 }), (seed, epoch, size) => {
      const order = permutation(seed, epoch, size);
      const indices = [0, 1, 2, 2 ** 31 - 1, size - 1];
      const images = indices.map((index) => permute(order, index));
      for (const image of images) expect(image >= 0 && image < size).toBe(true);
      expect(new Set(images).size).toBe(new Set(indices).size);
    }),
  );
});

test('another epoch and another seed give another order', () => {
  fc.assert(
    fc.property(seeds, epochs, (seed, epoch) => {
      const order = orderOf(seed, epoch, 200);
      expect(orderOf(seed, epoch + 1, 200)).not.toEqual(order);
      expect(orderOf(seed + 1, epoch, 200)).not.toEqual(order);
    }),
  );
});

test('every index goes to every place equally often', () => {
  const size = 11;
  const epochCount = 5500;
  const visits = new Int32Array(size * size);
  for (let epoch = 0; epoch < epochCount; epoch++) {
    orderOf(3, epoch, size).forEach((image, index) => {
      visits[index * size + image]! += 1;
    });
  }
  const expected = epochCount / size;
  const chi = visits.reduce((sum, seen) => sum + (seen - expected) ** 2 / expected, 0);
  // If all orders are equally likely, `chi` has a χ² distribution with 100 degrees of freedom. This
  // distribution has the mean 100 and the standard deviation 14. The limit 170 is five standard
  // deviations above the mean.
  expect(chi).toBeLessThan(170);
});

test('the first orders never change', () => {
  expect(orderOf(0, 0, 10)).toEqual([1, 9, 4, 5, 0, 6, 8, 3, 7, 2]);
  expect(orderOf(1, 2, 10)).toEqual([2, 9, 5, 4, 0, 1, 3, 7, 6, 8]);
});

const seeds = fc.nat(2 ** 31);
const epochs = fc.nat(2 ** 31);

function orderOf(seed: number, epoch: number, size: number): number[] {
  const order = permutation(seed, epoch, size);
  return Array.from({ length: size }, (_, index) => permute(order, index));
}

function isPermutation(images: readonly number[]): boolean {
  const sorted = Float64Array.from(images).sort();
  return sorted.every((image, index) => image === index);
}
