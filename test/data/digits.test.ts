import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Dataset } from '../../src/data/dataset.ts';
import { digits } from '../../src/data/digits.ts';

test('an image depends on its index only, and not on images drawn before', () => {
  const one = digits(5, { split: 'train' });
  fc.assert(
    fc.property(fc.array(fc.nat(59_999), { minLength: 1, maxLength: 5 }), (indices) => {
      const fresh = digits(5, { split: 'train' });
      for (const index of indices) expect(image(one, index)).toEqual(image(fresh, index));
    }),
    { numRuns: 30 },
  );
});

test('an image is written to its place and nowhere else', () => {
  const set = digits(5, { split: 'train' });
  fc.assert(
    fc.property(fc.nat(59_999), fc.nat(40), (index, offset) => {
      const pixels = new Uint8Array(784 + 80).fill(7);
      const label = set.sample(index, pixels, offset);
      expect(label).toBe(index % 10);
      expect(pixels.subarray(offset, offset + 784)).toEqual(image(set, index));
      expect(pixels.subarray(0, offset).every((it) => it === 7)).toBe(true);
      expect(pixels.subarray(offset + 784).every((it) => it === 7)).toBe(true);
    }),
    { numRuns: 30 },
  );
});

test('no image occurs twice in both splits and with two seeds', () => {
  const sets = [
    digits(0, { split: 'train' }),
    digits(0, { split: 'test' }),
    digits(1, { split: 'train' }),
    digits(1, { split: 'test' }),
  ];
  const seen = sets.flatMap((set) => Array.from({ length: 500 }, (_, i) => hash(image(set, i))));
  expect(new Set(seen).size).toBe(2000);
});

test('an epoch may have up to 2^32 images', () => {
  const set = digits(0, { split: 'train', size: 2 ** 32 });
  expect(set.sample(2 ** 32 - 1, new Uint8Array(784), 0)).toBe(5);
  expect(() => set.sample(2 ** 32, new Uint8Array(784), 0)).toThrow('sample');
  expect(() => digits(0, { split: 'train', size: 0 })).toThrow('size');
});

test('the size of an epoch does not change the images', () => {
  const small = digits(3, { split: 'test', size: 10 });
  const large = digits(3, { split: 'test' });
  for (let i = 0; i < 10; i++) expect(image(small, i)).toEqual(image(large, i));
});

test('pixels are normalised to mean 0 and deviation 1', () => {
  const set = digits(0, { split: 'train' });
  let sum = 0;
  let squares = 0;
  for (let i = 0; i < 2000; i++) {
    for (const pixel of image(set, i)) {
      const value = set.normalisation[pixel]!;
      sum += value;
      squares += value * value;
    }
  }
  expect(Math.abs(sum / (2000 * 784))).toBeLessThan(0.03);
  expect(Math.abs(Math.sqrt(squares / (2000 * 784)) - 1)).toBeLessThan(0.03);
});

test('every image has ink inside, and its border is nearly free', () => {
  const set = digits(0, { split: 'train' });
  for (let i = 0; i < 1000; i++) {
    const pixels = image(set, i);
    expect(pixels.filter((pixel) => pixel > 110).length).toBeGreaterThan(12);
    const border = pixels.filter((_, p) => p % 28 === 0 || p % 28 === 27 || p < 28 || p >= 756);
    expect(border.filter((pixel) => pixel > 110).length).toBeLessThan(16);
  }
});

test('the first hundred images of seed 0 never change', () => {
  const set = digits(0, { split: 'train' });
  const all = Buffer.concat(Array.from({ length: 100 }, (_, i) => image(set, i)));
  expect(hash(all)).toBe('afd8f9bb2d2fd9e9');
  expect(hash(new Uint8Array(set.normalisation.buffer))).toBe('2de94a21ef8f66f7');
});

test('a nearest-centroid classifier has an accuracy between 50 % and 90 %', () => {
  const centroids = centroidsOf(digits(0, { split: 'train' }), 3000);
  const tested = digits(0, { split: 'test' });
  let right = 0;
  for (let i = 0; i < 1000; i++) if (nearest(centroids, image(tested, i)) === i % 10) right++;
  expect(right / 1000).toBeGreaterThan(0.5);
  expect(right / 1000).toBeLessThan(0.9);
});

function image(set: Dataset, index: number): Uint8Array {
  const pixels = new Uint8Array(784);
  set.sample(index, pixels, 0);
  return pixels;
}

function hash(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex').slice(0, 16);
}

function centroidsOf(set: Dataset, count: number): Float64Array[] {
  const centroids = Array.from({ length: 10 }, () => new Float64Array(784));
  for (let i = 0; i < count; i++) {
    const centroid = centroids[i % 10]!;
    image(set, i).forEach((pixel, p) => {
      centroid[p]! += pixel / (count / 10);
    });
  }
  return centroids;
}

function nearest(centroids: readonly Float64Array[], pixels: Uint8Array): number {
  const distances = centroids.map((centroid) =>
    centroid.reduce((sum, value, p) => sum + (value - pixels[p]!) ** 2, 0),
  );
  return distances.indexOf(Math.min(...distances));
}
