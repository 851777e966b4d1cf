import { type WindowDimension, windowDimension } from '../window.ts';
import { type Attribute, field } from './attribute.ts';
import type { Scanner } from './scanner.ts';

/** The attribute `window`. A text without it has no dimensions. */
export function windowAttribute<
  I extends { readonly window: readonly WindowDimension[] },
>(): Attribute<I> {
  const codec = { write: windowText, read: readWindow };
  return field<I, 'window'>('window', 'window', codec, { otherwise: [] });
}

/**
 * Prints a window such as `{size=3x3 stride=2x2 pad=0_1x0_1}`. Omits a field that has its default
 * value in every dimension.
 */
function windowText(window: readonly WindowDimension[]): string {
  const over = (text: (it: WindowDimension) => string | number): string =>
    window.map(text).join('x');
  const parts = window.length === 0 ? [] : [`size=${over(({ size }) => size)}`];
  if (window.some(({ stride }) => stride !== 1)) parts.push(`stride=${over((it) => it.stride)}`);
  if (window.some(({ padLow, padHigh }) => padLow !== 0 || padHigh !== 0)) {
    parts.push(`pad=${over(({ padLow, padHigh }) => `${padLow}_${padHigh}`)}`);
  }
  if (window.some(({ baseDilation }) => baseDilation !== 1)) {
    parts.push(`lhs_dilate=${over((it) => it.baseDilation)}`);
  }
  if (window.some(({ windowDilation }) => windowDilation !== 1)) {
    parts.push(`rhs_dilate=${over((it) => it.windowDilation)}`);
  }
  if (window.some(({ reversal }) => reversal)) {
    parts.push(`rhs_reversal=${over(({ reversal }) => Number(reversal))}`);
  }
  return `{${parts.join(' ')}}`;
}

/** Reads a window such as `{size=3x3 stride=2x2 pad=0_1x0_1}`. */
function readWindow(scanner: Scanner): WindowDimension[] {
  scanner.expect('{');
  const fields = new Map<string, string[]>();
  const start = scanner.position;
  while (!scanner.take('}')) {
    const key = scanner.match(
      /size|stride|pad|lhs_dilate|rhs_dilate|rhs_reversal/y,
      'a field of a window',
    );
    scanner.expect('=');
    const pattern = key === 'pad' ? /-?\d+_-?\d+(x-?\d+_-?\d+)*/y : /\d+(x\d+)*/y;
    fields.set(key, scanner.match(pattern, `sizes joined by x`).split('x'));
  }
  const sizes = fields.get('size') ?? [];
  for (const [key, parts] of fields) {
    if (parts.length !== sizes.length) scanner.fail(`${sizes.length} numbers for ${key}`, start);
  }
  const number = (key: string, i: number): number => Number(fields.get(key)?.[i] ?? 1);
  return sizes.map((size, i) => {
    const [padLow, padHigh] = (fields.get('pad')?.[i] ?? '0_0').split('_').map(Number);
    return windowDimension({
      size: Number(size),
      stride: number('stride', i),
      padLow: padLow!,
      padHigh: padHigh!,
      baseDilation: number('lhs_dilate', i),
      windowDilation: number('rhs_dilate', i),
      reversal: fields.get('rhs_reversal')?.[i] === '1',
    });
  });
}
