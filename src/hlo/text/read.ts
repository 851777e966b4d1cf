import { isElementType } from '../../numerics/element-type.ts';
import { arrayShape, type Shape, tupleShape } from '../../numerics/shape.ts';
import type { Scanner } from './scanner.ts';

/* Readers of the small parts of HLO text. Each throws `bad-program` at a text that it refuses. */

/** Name of a module, an attribute or a choice. */
export const identifierPattern: RegExp = /[A-Za-z_][\w.-]*/y;

/** Name of an instruction or a computation, with or without `%`. */
const namePattern = /%?[A-Za-z_][\w.-]*/y;

/** String in double quotes, with escapes. */
export const stringPattern: RegExp = /"(?:[^"\\\n]|\\.)*"/y;

/**
 * Reads a shape such as `f32[2,3]` or `(f32[], token[])`. Ignores a layout, as in `f32[2,3]{1,0}`.
 */
export function readShape(scanner: Scanner): Shape {
  if (scanner.tryMatch(/(?=\()/y) !== undefined) {
    return tupleShape(scanner.list('(', ')', () => readShape(scanner)));
  }
  const position = scanner.position;
  const type = scanner.match(/[a-z][a-z0-9]*/y, 'a shape');
  if (type !== 'token' && !isElementType(type)) return scanner.fail('a shape', position);
  const dims = scanner.list('[', ']', () => readInteger(scanner));
  if (type === 'token') return { type: 'token' };
  scanner.tryMatch(/\{[\d,]*(:[^}]*)?\}/y);
  return arrayShape(type, dims);
}

/** Reads a name. `what` says whose name it is. */
export function readName(scanner: Scanner, what: string): string {
  return scanner.match(namePattern, `the name of ${what}`).replace('%', '');
}

/** Reads an integer. */
export function readInteger(scanner: Scanner): number {
  return Number(scanner.match(/-?\d+/y, 'an integer'));
}

/** Reads a number that is not NaN and finite, such as `0.001` or `1e-05`. */
export function readDecimal(scanner: Scanner): number {
  return Number(scanner.match(/-?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?/y, 'a number'));
}

/** Reads a list of integers, such as `{0,1}`. */
export function readIntegers(scanner: Scanner): number[] {
  return scanner.list('{', '}', () => readInteger(scanner));
}

/** Reads one of the given words. */
export function readChoice<T extends string>(scanner: Scanner, choices: readonly T[]): T {
  const position = scanner.position;
  const word = scanner.tryMatch(identifierPattern);
  return choices.find((it) => it === word) ?? scanner.fail(choices.join(' or '), position);
}

/** Skips the value of an ignored attribute: a word, a string, or text in balanced braces. */
export function skipValue(scanner: Scanner): void {
  if (scanner.tryMatch(stringPattern) !== undefined) return;
  if (!scanner.take('{')) {
    scanner.match(/[^\s,{}]+/y, 'a value');
    return;
  }
  while (!scanner.take('}')) {
    if (scanner.atEnd) scanner.fail('"}"');
    if (scanner.tryMatch(/(?=[{"])/y) !== undefined) skipValue(scanner);
    else scanner.match(/[^{}"]+/y, 'a value');
  }
}
