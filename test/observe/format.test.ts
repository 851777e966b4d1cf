import fc from 'fast-check';
import { expect, test } from 'vitest';
import { bytes, count, milliseconds, percent, table } from '../../src/observe/format.ts';

test('count() separates thousands and keeps every digit', () => {
  fc.assert(
    fc.property(fc.nat(2 ** 40), (value) => {
      expect(Number(count(value).replaceAll(',', ''))).toBe(value);
      expect(count(value)).toMatch(/^\d{1,3}(,\d{3})*$/);
    }),
  );
});

test('bytes() prints three digits in the largest unit that fits', () => {
  expect([0, 1023, 1024, 26_214_400, 8 * 2 ** 30].map(bytes)).toEqual([
    '0 B',
    '1023 B',
    '1.00 KiB',
    '25.0 MiB',
    '8.00 GiB',
  ]);
});

test('times and shares are printed with few digits', () => {
  expect([0.1234, 4.56, 123.4, 61_000].map(milliseconds)).toEqual([
    '0.12 ms',
    '4.6 ms',
    '123 ms',
    '61.0 s',
  ]);
  expect([0.97654, 1].map(percent)).toEqual(['97.65 %', '100.0 %']);
});

test('every row of a table ends in the same column', () => {
  const cell = fc.stringMatching(/^[a-z0-9]{1,8}$/);
  fc.assert(
    fc.property(fc.array(fc.tuple(cell, cell, cell), { minLength: 1 }), (rows) => {
      const lines = table(rows);
      expect(new Set(lines.map((line) => line.length)).size).toBe(1);
      expect(lines.map((line) => line.split(/ +/))).toEqual(rows);
    }),
  );
});
