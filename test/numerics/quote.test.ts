import fc from 'fast-check';
import { expect, test } from 'vitest';
import { PodError } from '../../src/numerics/error.ts';
import { messageLengthMax, oneLine, quote, quoteName } from '../../src/numerics/quote.ts';

/** Characters that control a terminal, break a line, or change the direction of text. */
const obeyed = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u;

const anyText = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 400 }),
  fc.string({ unit: 'grapheme', maxLength: 400 }),
  fc
    .array(fc.constantFrom('\u001b[2J', '\n', '\r', '\u202e', '\ud800', '\udc00', '"', '\\', 'a'))
    .map((parts) => parts.join('')),
);

test('a quotation is one short line without control characters, whatever is quoted', () => {
  fc.assert(
    fc.property(
      fc.oneof(anyText, fc.anything()),
      fc.integer({ min: 10, max: 80 }),
      (value, most) => {
        const text = quote(value, most);
        expect(text).not.toMatch(obeyed);
        expect(text).not.toMatch(/\p{Cs}/u);
        expect(text.length).toBeLessThanOrEqual(most + 30);
      },
    ),
  );
});

test('two different texts that fit have different, complete quotations', () => {
  fc.assert(
    fc.property(anyText, anyText, (one, other) => {
      const [most, same] = [1e6, one === other];
      expect(quote(one, most) === quote(other, most)).toBe(same);
      expect(quote(one, most).length).toBeGreaterThanOrEqual(one.length + 2);
    }),
  );
});

test('oneLine makes any text one line of at most `messageLengthMax` characters', () => {
  fc.assert(
    fc.property(anyText, fc.integer({ min: 0, max: 3000 }), (part, times) => {
      const text = oneLine(part.repeat(times));
      expect(text).not.toMatch(obeyed);
      expect(text).not.toMatch(/\p{Cs}/u);
      expect(text.length).toBeLessThanOrEqual(messageLengthMax);
    }),
  );
});

test('the message of a PodError is one line of bounded length', () => {
  const { message } = new PodError('io', `file \u001b[2J${'x'.repeat(1e6)}\n  second line`);
  expect(message).toMatch(/^file \\u001b\[2Jx+…x+; second line$/);
  expect(message.length).toBeLessThanOrEqual(messageLengthMax);
});

test('a short message without control characters is unchanged', () => {
  const message = '--tpus: expected one of 1, 2, 4, 8, 16, 32 and 64, found "seven"; try 8';
  expect(oneLine(message)).toBe(message);
});

test('a message that is too long keeps its beginning and its end', () => {
  const text = oneLine(`--data: expected a folder, found ${'x'.repeat(1e6)}; rename it`);
  expect(text).toMatch(/^--data: expected a folder, found x+…x+; rename it$/);
});

test('several lines become one, with a semicolon for each line break', () => {
  expect(oneLine('first\n   second\r\n\nthird\n')).toBe('first; second; third');
});

test.each([
  ['cnn', '"cnn"'],
  ['a "word"', '"a \\"word\\""'],
  ['\u001b[31mred\u0007', '"\\u001b[31mred\\u0007"'],
  ['two\nlines', '"two\\nlines"'],
  ['\u202eright to left', '"\\u202eright to left"'],
  ['\u{e0041}tag', '"\\u{e0041}tag"'],
  ['größe 大 🙂', '"größe 大 🙂"'],
  [Number.POSITIVE_INFINITY, '.inf'],
  [Number.NEGATIVE_INFINITY, '-.inf'],
  [Number.NaN, '.nan'],
  [-0.5, '-0.5'],
  [null, 'null'],
  [undefined, 'undefined'],
  [[1, 'two', null], '[1,"two",null]'],
  [{ a: [true] }, '{"a":[true]}'],
  [[[[[[1]]]]], '[[[[…]]]]'],
])('%j is quoted as %s', (value, text) => {
  expect(quote(value)).toBe(text);
});

test('a long value is cut, and the quotation of a long text has its length', () => {
  expect(quote('x'.repeat(2 ** 20))).toBe(`"${'x'.repeat(59)}…" (1048576 characters)`);
  expect(quote(Array.from({ length: 1e6 }, (_, i) => i))).toMatch(/^\[0,1,2,[\d,]+…$/);
});

test('a value that contains itself, or very many nested values, is cut as well', () => {
  const ring: unknown[] = [1];
  ring.push(ring);
  expect(quote(ring)).toBe('[1,[1,[1,[1,…]]]]');
  let bomb: unknown = 'lol';
  for (let i = 0; i < 40; i++) bomb = Array(9).fill(bomb);
  expect(quote(bomb).length).toBeLessThan(70);
});

test('quoteName returns a plain name unchanged, and quotes any other', () => {
  for (const name of ['run.yaml', '/data/my files/run-1.yaml', 'tpu-1.example', 'Größe.json']) {
    expect(quoteName(name)).toBe(name);
  }
  expect(quoteName(' run.yaml')).toBe('" run.yaml"');
  expect(quoteName('')).toBe('""');
  expect(quoteName('\u001b]0;title\u0007')).toBe('"\\u001b]0;title\\u0007"');
  expect(quoteName('d'.repeat(5000)).length).toBeLessThan(200);
});
