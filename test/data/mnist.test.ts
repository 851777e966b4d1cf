import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { afterAll, expect, test } from 'vitest';
import type { Dataset } from '../../src/data/dataset.ts';
import { mnist } from '../../src/data/mnist.ts';
import { PodError } from '../../src/numerics/error.ts';

const images = 't10k-images-idx3-ubyte';
const labels = 't10k-labels-idx1-ubyte';

test('images and labels are read as written, gzipped or not', () => {
  fc.assert(
    fc.property(sampleLists, fc.boolean(), fc.boolean(), (samples, packImages, packLabels) => {
      const dir = folder({
        [packImages ? `${images}.gz` : images]: packed(packImages, imageFile(samples)),
        [packLabels ? `${labels}.gz` : labels]: packed(packLabels, labelFile(samples)),
      });
      const { train, test: tested } = mnist(dir);
      expect(train.size).toBe(Math.floor(samples.length * 0.8));
      expect([...samplesOf(train), ...samplesOf(tested)]).toEqual(samples);
    }),
    { numRuns: 40 },
  );
});

test('with training files, these are the training set and t10k is the test set', () => {
  const trainSamples = madeSamples(6, 1);
  const testSamples = madeSamples(3, 2);
  const dir = folder({
    'train-images-idx3-ubyte': imageFile(trainSamples),
    'train-labels-idx1-ubyte.gz': packed(true, labelFile(trainSamples)),
    [images]: imageFile(testSamples),
    [labels]: labelFile(testSamples),
  });
  const { train, test: tested } = mnist(dir);
  expect(samplesOf(train)).toEqual(trainSamples);
  expect(samplesOf(tested)).toEqual(testSamples);
  expect(() => train.sample(6, new Uint8Array(784), 0)).toThrow('sample 6 of 6');
});

test('the digest depends on the contents only, not on packing or folder', () => {
  const samples = madeSamples(10, 4);
  const plain = mnist(folder({ [images]: imageFile(samples), [labels]: labelFile(samples) }));
  const packedFiles = {
    [images]: imageFile(samples),
    [`${labels}.gz`]: packed(true, labelFile(samples)),
  };
  const elsewhere = mnist(folder(packedFiles));
  expect(elsewhere.train.digest()).toBe(plain.train.digest());
  expect(plain.test.digest()).not.toBe(plain.train.digest());
  for (const change of [{ label: 9 }, { pixels: [1, ...samples[0]!.pixels.slice(1)] }]) {
    const changed = [{ ...samples[0]!, ...change }, ...samples.slice(1)];
    const other = mnist(folder({ [images]: imageFile(changed), [labels]: labelFile(changed) }));
    expect(other.train.digest()).not.toBe(plain.train.digest());
  }
});

test('a file cut short at any byte, or one byte too long, is refused', () => {
  for (const [name, whole] of Object.entries(smallFiles(2))) {
    const dir = folder(smallFiles(2));
    const cuts = Array.from({ length: whole.length }, (_, length) => whole.subarray(0, length));
    for (const cut of [...cuts, Buffer.concat([whole, Buffer.of(0)])]) {
      writeFileSync(join(dir, name), cut);
      expect(refusalIn(dir)).toContain(name);
    }
  }
});

test('a header with any bit flipped is refused', () => {
  for (const [name, whole] of Object.entries(smallFiles())) {
    const header = name === images ? 16 : 8;
    for (let bit = 0; bit < header * 8; bit++) {
      expect(refusal({ ...smallFiles(), [name]: flipped(whole, bit) })).toContain('ubyte');
    }
  }
});

test('a label above 9 is refused at any place', () => {
  for (let place = 0; place < 4; place++) {
    const file = Buffer.from(smallFiles()[labels]!);
    file[8 + place] = 10;
    const message = refusal({ ...smallFiles(), [labels]: file });
    expect(message).toContain(`expected labels 0 to 9, found label 10 of image ${place}`);
  }
});

test('a truncated gzip file is refused; one with a flipped bit is refused or read unchanged', () => {
  const whole = gzipSync(smallFiles()[labels]!);
  const withLabels = (file: Uint8Array): Files => ({
    [images]: smallFiles()[images]!,
    [`${labels}.gz`]: file,
  });
  for (let length = 0; length < whole.length; length++) {
    expect(refusal(withLabels(whole.subarray(0, length)))).toContain(labels);
  }
  const unharmed = samplesOf(mnist(folder(withLabels(whole))).train);
  let refused = 0;
  for (let bit = 0; bit < whole.length * 8; bit++) {
    const read = attempt(withLabels(flipped(whole, bit)));
    if (read instanceof PodError) refused++;
    else expect(read).toEqual(unharmed);
  }
  expect(refused).toBeGreaterThan(whole.length * 4);
});

test('files of random bytes are refused', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), fc.constantFrom(images, labels), (bytes, it) => {
      expect(refusal({ ...smallFiles(), [it]: bytes })).toContain('expected');
    }),
  );
});

test('a missing, wrong or mismatched file is named', () => {
  const { [images]: imageBytes, [labels]: labelBytes } = smallFiles();
  const five = madeSamples(5, 3);
  expect(refusal({})).toContain(`expected this file, or ${images}.gz, found neither`);
  expect(refusal({ [images]: imageBytes! })).toContain(`${labels}: expected this file`);
  expect(refusal({ [images]: labelBytes!, [labels]: labelBytes! })).toContain(
    'expected the magic bytes [0 0 8 3], found the bytes [0 0 8 1]',
  );
  expect(refusal({ [images]: imageBytes!, [labels]: labelFile(five) })).toContain(
    'expected 4 labels, one for each image, found 5',
  );
  expect(refusal({ ...smallFiles(), 'train-labels-idx1-ubyte': labelBytes! })).toContain(
    'train-images-idx3-ubyte: expected this file',
  );
  const one = madeSamples(1, 3);
  expect(refusal({ [images]: imageFile(one), [labels]: labelFile(one) })).toContain(
    'at least 2 images to split',
  );
  expect(refusal({ [images]: imageFile([]), [labels]: labelFile([]) })).toContain('at least one');
  const dir = folder({ [labels]: labelBytes! });
  mkdirSync(join(dir, images));
  expect(() => mnist(dir)).toThrow(
    /a readable file of at most \d+ bytes, found a folder; put a regular file there/,
  );
});

test.skipIf(!existsSync('../shared/data/mnist'))('the real images split 8,000 to 2,000', () => {
  const { train, test: tested } = mnist('../shared/data/mnist');
  expect([train.size, tested.size]).toEqual([8000, 2000]);
  // The folder has the 10,000 images of the original test set of MNIST. `mnist` takes the first
  // 8,000 of them for training. They begin with the digits 7, 2, 1, 0, 4, 1, 4, 9, 5, 9.
  const first = Array.from({ length: 10 }, (_, i) => train.sample(i, new Uint8Array(784), 0));
  expect(first).toEqual([7, 2, 1, 0, 4, 1, 4, 9, 5, 9]);
});

interface Sample {
  readonly pixels: readonly number[];
  readonly label: number;
}
type Files = Readonly<Record<string, Uint8Array>>;

const base = mkdtempSync(join(tmpdir(), 'mnist-'));
afterAll(() => rmSync(base, { recursive: true }));

/**
 * Arbitrary lists of samples. A sample is computed from two numbers, a seed and a label. So
 * fast-check shrinks these two numbers and not 784 pixels.
 */
const sampleLists = fc
  .array(fc.tuple(fc.nat(255), fc.nat(9)), { minLength: 2, maxLength: 12 })
  .map((pairs) =>
    pairs.map(([seed, label]) => ({
      pixels: Array.from({ length: 784 }, (_, p) => (seed + p * p) & 255),
      label,
    })),
  );

function madeSamples(count: number, seed: number): Sample[] {
  return Array.from({ length: count }, (_, i) => ({
    pixels: Array.from({ length: 784 }, (_, p) => (seed * 31 + i * 7 + p) & 255),
    label: (seed + i) % 10,
  }));
}

/** Returns a valid file of images and a valid file of labels. Tests change one of the two files. */
function smallFiles(count = 4): Record<string, Buffer> {
  const samples = madeSamples(count, 0);
  return { [images]: imageFile(samples), [labels]: labelFile(samples) };
}

function imageFile(samples: readonly Sample[]): Buffer {
  const header = Buffer.from([0, 0, 8, 3, 0, 0, 0, samples.length, 0, 0, 0, 28, 0, 0, 0, 28]);
  return Buffer.concat([header, Buffer.from(samples.flatMap(({ pixels }) => pixels))]);
}

function labelFile(samples: readonly Sample[]): Buffer {
  return Buffer.from([0, 0, 8, 1, 0, 0, 0, samples.length, ...samples.map(({ label }) => label)]);
}

function packed(pack: boolean, bytes: Buffer): Buffer {
  return pack ? gzipSync(bytes) : bytes;
}

function flipped(bytes: Uint8Array, bit: number): Buffer {
  const copy = Buffer.from(bytes);
  copy[bit >> 3]! ^= 1 << (bit & 7);
  return copy;
}

/** Makes a new folder with the given files. Returns its path. */
function folder(files: Files): string {
  const dir = mkdtempSync(join(base, 'case-'));
  for (const [name, bytes] of Object.entries(files)) writeFileSync(join(dir, name), bytes);
  return dir;
}

/**
 * Reads the training samples in a folder. Returns the samples, or the error with which this failed.
 * Expects that the error has the code `bad-data` and a text of one line.
 */
function attemptIn(dir: string): Sample[] | PodError {
  try {
    return samplesOf(mnist(dir).train);
  } catch (error) {
    if (!(error instanceof PodError)) throw error;
    expect(error.code).toBe('bad-data');
    expect(error.message).toMatch(/^[^\n]+: expected [^\n]+, found [^\n]+; [^\n]+$/);
    return error;
  }
}

function attempt(files: Files): Sample[] | PodError {
  return attemptIn(folder(files));
}

function refusalIn(dir: string): string {
  const read = attemptIn(dir);
  if (!(read instanceof PodError)) throw new Error('the files were taken');
  return read.message;
}

function refusal(files: Files): string {
  return refusalIn(folder(files));
}

function samplesOf(set: Dataset): Sample[] {
  return Array.from({ length: set.size }, (_, index) => {
    const pixels = new Uint8Array(784);
    const label = set.sample(index, pixels, 0);
    return { pixels: [...pixels], label };
  });
}
