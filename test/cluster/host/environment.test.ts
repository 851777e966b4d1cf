import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  readInteger,
  readText,
  readWord,
  wholeUnlessEmpty,
} from '../../../cluster/host/environment.ts';

const range = { min: 1, max: 65_535 };

test('a number may have white space around it, and all other text is refused in one line', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 65_535 }),
      fc.constantFrom('', ' ', '\t', '\n'),
      (it, by) => {
        expect(readInteger({ X: `${by}${it}${by}` }, 'X', range)).toBe(it);
      },
    ),
  );
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 200 }), (text) => {
      if (/^\s*\d+\s*$/.test(text)) return;
      expect(() => readInteger({ X: text }, 'X', range)).toThrow(
        expect.objectContaining({
          ...{ code: 'bad-config', exitCode: 2 },
          message: expect.stringMatching(
            /^X: expected a whole number from 1 to 65535, found [^\p{Cc}]{2,120}$/u,
          ),
        }),
      );
    }),
  );
});

describe('numbers', () => {
  test.each([
    '0',
    '65536',
    '1e3',
    '0x10',
    '-1',
    '+1',
    '1.0',
    '1,000',
    '',
    ' ',
    '٣',
    '9'.repeat(2 ** 20),
  ])('%.20s is refused', (text) =>
    expect(() => readInteger({ X: text }, 'X', range)).toThrow(/^X: expected/),
  );

  test('an unset variable is undefined, and an empty one is refused unless it may be empty', () => {
    expect(readInteger({}, 'X', range)).toBeUndefined();
    expect(wholeUnlessEmpty({ X: '' }, 'X', range)).toBeUndefined();
    expect(() => wholeUnlessEmpty({ X: ' ' }, 'X', range)).toThrow(/^X: expected/);
  });
});

test('wordIn accepts one of the given words', () => {
  expect(readWord({ X: ' serve ' }, 'X', ['job', 'serve'])).toBe('serve');
  expect(readWord({}, 'X', ['job'])).toBeUndefined();
  for (const text of ['', 'JOB', 'jobs', 'toString']) {
    expect(() => readWord({ X: text }, 'X', ['job', 'serve'])).toThrow(
      /^X: expected job or serve, found "/,
    );
  }
});

test('textIn accepts one line of text', () => {
  expect(readText({ X: '/data/my files' }, 'X')).toBe('/data/my files');
  expect(readText({}, 'X')).toBeUndefined();
  for (const text of ['', '  ', 'a\nb', '\u001b[31m', 'a'.repeat(5000)]) {
    expect(() => readText({ X: text }, 'X')).toThrow(/^X: expected a line of 1 to 4096 characters/);
  }
});
