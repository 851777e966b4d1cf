import { at } from '../../numerics/assert.ts';
import { exactBf16 } from '../../numerics/bf16.ts';
import {
  computedTypes,
  type ElementType,
  elementTypes,
  type Scalar,
} from '../../numerics/element-type.ts';
import { type Literal, literal, scalarAt, storedOf } from '../../numerics/literal.ts';
import { elementCount, isArray, product, type Shape } from '../../numerics/shape.ts';
import type { Scanner } from './scanner.ts';

/* Values of constants in HLO text, such as `{ 1, -0.5, inf }`. */

/**
 * Returns the value of a constant as HLO text. If the constant has more than `elementsMax` elements,
 * returns `{...}`, which the reader refuses.
 */
export function literalText(
  value: Literal,
  elementsMax: number = Number.POSITIVE_INFINITY,
): string {
  const { dims } = value.shape;
  if (product(dims) > elementsMax) return '{...}';
  return nested(0, 0);

  function nested(dimension: number, index: number): string {
    if (dimension === dims.length) return elementText(value, index);
    const size = dims[dimension]!;
    const items = Array.from({ length: size }, (_, i) => nested(dimension + 1, index * size + i));
    return size === 0 ? '{}' : `{ ${items.join(', ')} }`;
  }
}

function elementText(value: Literal, index: number): string {
  const element = scalarAt(value, index);
  switch (elementTypes[value.shape.type].kind) {
    case 'pred':
      return element === 0 ? 'false' : 'true';
    case 'float':
      return floatText(Number(element));
    default:
      return String(element);
  }
}

/**
 * Returns the shortest decimal number that rounds to the same f32. A large number has an exponent,
 * because XLA's parser reads digits alone as an integer of 64 bits.
 */
export function floatText(value: number): string {
  if (Number.isNaN(value)) return 'nan';
  if (!Number.isFinite(value)) return value < 0 ? '-inf' : 'inf';
  // XLA's parser reads "-0" as an integer, and the sign of zero would be lost.
  if (Object.is(value, -0)) return '-0.0';
  for (let digits = 1; digits < 9; digits++) {
    const short = Number(value.toPrecision(digits));
    if (Math.fround(short) === value) return decimalText(short);
  }
  return decimalText(Number(value.toPrecision(9)));
}

function decimalText(value: number): string {
  return Math.abs(value) < 1e15 ? String(value) : value.toExponential();
}

/** Reads the value of a constant of the given shape. */
export function readLiteral(scanner: Scanner, shape: Shape): Literal {
  if (!isArray(shape)) return scanner.fail('an array as a constant');
  const { type, dims } = shape;
  if (!computedTypes.includes(type))
    return scanner.fail(`a constant of a type with arithmetic, which ${type} is not`);
  const values = new Array<Scalar>(elementCount(shape));
  fill(0, 0);
  // A constant may have any bits, also of numbers that the hardware takes as 0.
  if (type === 'bf16')
    return { shape, data: Uint16Array.from(values, (x) => exactBf16(Number(x))) };
  return literal(type, dims, values);

  function fill(dimension: number, index: number): void {
    if (dimension === dims.length) {
      values[index] = readElement(scanner, type);
      return;
    }
    const size = at(dims, dimension);
    scanner.expect('{');
    for (let i = 0; i < size; i++) {
      if (i > 0) scanner.expect(',');
      fill(dimension + 1, index * size + i);
    }
    scanner.expect('}');
  }
}

function readElement(scanner: Scanner, type: ElementType): Scalar {
  const position = scanner.position;
  const word = scanner.match(
    /true|false|-?inf|-?nan|-?\d+(\.\d*)?(e[+-]?\d+)?/y,
    `a value of type ${type}`,
  );
  const stored = storedOf(type);
  if (stored.isWide) {
    const wide = /^-?\d+$/.test(word) ? BigInt(word) : undefined;
    const isIn = wide !== undefined && wide >= stored.range.least && wide <= stored.range.most;
    return isIn ? wide : scanner.fail(`a value of type ${type}`, position);
  }
  const value = wordValues.get(word) ?? Number(word);
  const { range } = stored;
  if (range === undefined) return value;
  const fits = Number.isInteger(value) && value >= range.least && value <= range.most;
  return fits ? value : scanner.fail(`a value of type ${type}`, position);
}

const wordValues: ReadonlyMap<string, number> = new Map([
  ['true', 1],
  ['false', 0],
  ['inf', Number.POSITIVE_INFINITY],
  ['-inf', Number.NEGATIVE_INFINITY],
  ['nan', Number.NaN],
  ['-nan', Number.NaN],
]);
