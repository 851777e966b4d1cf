import { unreachable } from '../../numerics/assert.ts';
import { type ElementType, elementTypes } from '../../numerics/element-type.ts';
import { onNumber, onNumbers, roundNearestEven, truncateTo } from '../../numerics/f32-ops.ts';
import * as lanes from '../../numerics/transcendental.ts';
import type { BinaryOpcode, Compare, UnaryOpcode } from '../instruction.ts';
import { asType } from './value.ts';

const exponential = onNumber(lanes.exp);
const exponentialMinusOne = onNumber(lanes.expm1);
const logarithm = onNumber(lanes.log);
const logarithmPlusOne = onNumber(lanes.log1p);
const hyperbolicTangent = onNumber(lanes.tanh);
const logistic = onNumber(lanes.logistic);
const sine = onNumber(lanes.sin);
const cosine = onNumber(lanes.cos);
const rsqrt = onNumber(lanes.rsqrt);
const power = onNumbers(lanes.power);

/**
 * Returns the function that computes one element of a unary operation. Floats are computed in f32
 * and then rounded to their element type. Integers wrap modulo 2^32.
 */
export function unaryElement(opcode: UnaryOpcode, type: ElementType): (x: number) => number {
  const plain = unaryOf(opcode, type);
  return opcode === 'is-finite' ? plain : (x) => asType(type, plain(x));
}

function unaryOf(opcode: UnaryOpcode, type: ElementType): (x: number) => number {
  switch (opcode) {
    case 'abs':
      return Math.abs;
    case 'ceil':
      return Math.ceil;
    case 'cosine':
      return cosine;
    case 'exponential':
      return exponential;
    case 'exponential-minus-one':
      return exponentialMinusOne;
    case 'floor':
      return Math.floor;
    case 'is-finite':
      return (x) => Number(Number.isFinite(x));
    case 'log':
      return logarithm;
    case 'log-plus-one':
      return logarithmPlusOne;
    case 'logistic':
      return logistic;
    case 'negate':
      return (x) => -x;
    case 'not':
      return type === 'pred' ? (x) => 1 - x : (x) => ~x;
    case 'round-nearest-even':
      return roundNearestEven;
    case 'rsqrt':
      return rsqrt;
    case 'sign':
      return Math.sign;
    case 'sine':
      return sine;
    case 'sqrt':
      return Math.sqrt;
    case 'tanh':
      return hyperbolicTangent;
    default:
      return unreachable(opcode);
  }
}

/**
 * Returns the function that computes one element of a binary operation, with these rules:
 *
 * - Maximum and minimum, as in WASM: if an operand is NaN, the result is NaN; −0 is less than +0.
 * - Division of integers, as in XLA: all bits of x / 0 are set; the remainder of x / 0 is x; −2^31
 *   / −1 is −2^31.
 * - Shifts: the shift count is unsigned. If it is 32 or more, an arithmetic right shift fills all
 *   bits with the sign bit, and the other shifts give 0.
 */
export function binaryElement(
  opcode: BinaryOpcode,
  type: ElementType,
): (a: number, b: number) => number {
  const plain = elementTypes[type].kind === 'float' ? floatOf(opcode) : integerOf(opcode);
  return (a, b) => asType(type, plain(a, b));
}

function floatOf(opcode: BinaryOpcode): (a: number, b: number) => number {
  switch (opcode) {
    case 'add':
      return (a, b) => a + b;
    case 'subtract':
      return (a, b) => a - b;
    case 'multiply':
      return (a, b) => a * b;
    case 'divide':
      return (a, b) => a / b;
    case 'remainder':
      return (a, b) => a % b;
    case 'power':
      return power;
    default:
      return orderedOf(opcode);
  }
}

function integerOf(opcode: BinaryOpcode): (a: number, b: number) => number {
  switch (opcode) {
    case 'add':
      return (a, b) => a + b;
    case 'subtract':
      return (a, b) => a - b;
    case 'multiply':
      return Math.imul;
    case 'divide':
      return (a, b) => (b === 0 ? -1 : Math.trunc(a / b));
    case 'remainder':
      return (a, b) => (b === 0 ? a : a % b);
    case 'and':
      return (a, b) => a & b;
    case 'or':
      return (a, b) => a | b;
    case 'xor':
      return (a, b) => a ^ b;
    case 'shift-left':
      return (a, b) => (b >>> 0 < 32 ? a << b : 0);
    case 'shift-right-arithmetic':
      return (a, b) => (a | 0) >> Math.min(b >>> 0, 31);
    case 'shift-right-logical':
      return (a, b) => (b >>> 0 < 32 ? a >>> b : 0);
    default:
      return orderedOf(opcode);
  }
}

function orderedOf(opcode: BinaryOpcode): (a: number, b: number) => number {
  return opcode === 'maximum' ? Math.max : Math.min;
}

/**
 * Returns a function that compares a with b: 1 if the comparison holds, otherwise 0. If a or b is
 * NaN, NE returns 1 and all other comparisons return 0.
 */
export function comparison(direction: Compare['direction']): (a: number, b: number) => number {
  switch (direction) {
    case 'EQ':
      return (a, b) => Number(a === b);
    case 'NE':
      return (a, b) => Number(a !== b);
    case 'LT':
      return (a, b) => Number(a < b);
    case 'LE':
      return (a, b) => Number(a <= b);
    case 'GT':
      return (a, b) => Number(a > b);
    case 'GE':
      return (a, b) => Number(a >= b);
    default:
      return unreachable(direction);
  }
}

/**
 * Returns the function that converts one value.
 *
 * - From float to integer: the value is rounded towards zero and limited to the range of the
 *   integer type. NaN becomes 0.
 * - From integer to integer: the value wraps modulo 2^32.
 * - To pred: 0 becomes false, every other value true.
 * - From integer to bf16: the value is rounded twice, first to f32 and then to bf16.
 */
export function conversion(from: ElementType, to: ElementType): (x: number) => number {
  if (to === 'pred') return (x) => Number(x !== 0);
  if (elementTypes[from].kind === 'float' && to === 's32') {
    return (x) => truncateTo(x, -(2 ** 31), 2 ** 31 - 1);
  }
  if (elementTypes[from].kind === 'float' && to === 'u32') {
    return (x) => truncateTo(x, 0, 2 ** 32 - 1);
  }
  return (x) => asType(to, x);
}
