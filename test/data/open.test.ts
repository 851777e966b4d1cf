import fc from 'fast-check';
import { expect, test } from 'vitest';
import { openDataset } from '../../src/data/open.ts';
import { PodError } from '../../src/numerics/error.ts';

test('digits is opened with or without the size of an epoch', () => {
  const { train, test: tested } = openDataset('digits', 0);
  expect([train.size, tested.size]).toEqual([60_000, 10_000]);
  expect(openDataset('digits:1234', 0).train.size).toBe(1234);
  expect(openDataset('digits:1234', 0).test.size).toBe(10_000);
});

test('a digest depends on split, seed and size', () => {
  const digests = [
    openDataset('digits', 0).train,
    openDataset('digits', 0).test,
    openDataset('digits', 1).train,
    openDataset('digits:1234', 0).train,
  ].map((it) => it.digest());
  expect(new Set(digests).size).toBe(digests.length);
  expect(openDataset('digits:60000', 0).train.digest()).toBe(digests[0]);
  for (const it of digests) expect(it).toMatch(/^[0-9a-f]{64}$/);
});

test('a missing MNIST folder is refused with bad-data', () => {
  expect(() => openDataset('mnist:no/such:folder', 0)).toThrow(
    expect.objectContaining({
      code: 'bad-data',
      message: expect.stringContaining('no/such:folder'),
    }),
  );
});

test('any other text is refused with bad-flag in one line', () => {
  const known = /^(digits(:[1-9]\d*)?$|mnist:.)/s;
  const texts = fc.oneof(
    fc.string().filter((text) => !known.test(text)),
    fc.constantFrom('', 'mnist', 'mnist:', 'digits:', 'digits:0', 'digits:-1', 'digits:1e3'),
    fc.constantFrom(
      'digits:1.5',
      'digits:4294967297',
      'Digits',
      'digits:\n1',
      'cifar',
      'digits:１',
    ),
  );
  fc.assert(
    fc.property(texts, (text) => {
      const error = refused(text);
      expect(error.code).toBe('bad-flag');
      expect(error.message).toMatch(
        /^--data: expected one of digits, digits:SIZE, mnist:DIR, found .*$/,
      );
    }),
  );
});

function refused(text: string): PodError {
  try {
    openDataset(text, 0);
  } catch (error) {
    if (error instanceof PodError) return error;
    throw error;
  }
  throw new Error(`${text} was taken`);
}
