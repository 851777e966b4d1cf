import { atan2 } from '../../numerics/arc-tangent.ts';
import { assert } from '../../numerics/assert.ts';
import { type ElementType, elementTypes, type Scalar } from '../../numerics/element-type.ts';
import { onNumbers } from '../../numerics/f32-ops.ts';
import { signedBits, unsignedBits } from '../../numerics/integer-bits.ts';
import { storedOf } from '../../numerics/literal.ts';
import * as lanes from '../../numerics/transcendental.ts';
import { wideMaximum, wideMinimum } from '../evaluate/elementwise.ts';
import { mapped } from '../evaluate/mapped.ts';
import { literalOf, rounderOf } from '../evaluate/value.ts';
import type { InstructionBase } from '../instruction.ts';
import { equalOperands, expectKind, type Kind, typesOfKind } from './check.ts';
import type { Definition, DefinitionsOf } from './definition.ts';

/** Opcodes of element-wise operations on two arrays. */
export const binaryOpcodes = [
  'add',
  'subtract',
  'multiply',
  'divide',
  'maximum',
  'minimum',
  'power',
  'remainder',
  'and',
  'or',
  'xor',
  'shift-left',
  'shift-right-arithmetic',
  'shift-right-logical',
  'atan2',
] as const;

/** One of {@link binaryOpcodes}. */
export type BinaryOpcode = (typeof binaryOpcodes)[number];

/** An element-wise operation on two arrays. Operands: a, b, of one shape. */
export interface Binary extends InstructionBase<BinaryOpcode> {}

/** Definition of an element-wise operation on two arrays. */
interface BinaryOp {
  /** Kind of elements that the operation accepts. */
  readonly takes: Kind;
  /** Computes one element from two floats, in f32. The result is rounded to the element type. */
  readonly ofFloats?: (a: number, b: number) => number;
  /**
   * Computes one element from two integers of `bits` bits, or from two pred as 0 and 1. The result
   * wraps to the element type.
   */
  readonly ofIntegers?: (a: number, b: number, bits: number) => number;
  /** Computes one element from two 64-bit integers. The result wraps to the element type. */
  readonly ofWide?: (a: bigint, b: bigint) => bigint;
}

/**
 * Rules that are not obvious:
 *
 * - Maximum and minimum, as in WASM: if an operand is NaN, the result is NaN; −0 is less than +0.
 * - Division of integers, as in XLA: all bits of x / 0 are set; the remainder of x / 0 is x; −2^31
 *   / −1 is −2^31.
 * - Shifts: the shift count is unsigned. If it is the width of the type or more, an arithmetic right
 *   shift fills all bits with the sign bit, and the other shifts give 0.
 */
const ops: { readonly [O in BinaryOpcode]: BinaryOp } = {
  add: { takes: 'number', ...both((a, b) => a + b), ofWide: (a, b) => a + b },
  subtract: { takes: 'number', ...both((a, b) => a - b), ofWide: (a, b) => a - b },
  multiply: {
    takes: 'number',
    ofFloats: (a, b) => a * b,
    ofIntegers: Math.imul,
    ofWide: (a, b) => a * b,
  },
  divide: {
    takes: 'number',
    ofFloats: (a, b) => a / b,
    ofIntegers: (a, b) => (b === 0 ? -1 : Math.trunc(a / b)),
    ofWide: (a, b) => (b === 0n ? -1n : a / b),
  },
  maximum: {
    takes: 'any',
    ...both((a, b) => Math.max(a, b)),
    ofWide: wideMaximum,
  },
  minimum: {
    takes: 'any',
    ...both((a, b) => Math.min(a, b)),
    ofWide: wideMinimum,
  },
  power: { takes: 'float', ofFloats: onNumbers(lanes.power) },
  remainder: {
    takes: 'number',
    ofFloats: (a, b) => a % b,
    ofIntegers: (a, b) => (b === 0 ? a : a % b),
    ofWide: (a, b) => (b === 0n ? a : a % b),
  },
  and: { takes: 'bits', ofIntegers: (a, b) => a & b, ofWide: (a, b) => a & b },
  or: { takes: 'bits', ofIntegers: (a, b) => a | b, ofWide: (a, b) => a | b },
  xor: { takes: 'bits', ofIntegers: (a, b) => a ^ b, ofWide: (a, b) => a ^ b },
  'shift-left': {
    takes: 'integer',
    ofIntegers: (a, b, bits) => (b >>> 0 < bits ? a << b : 0),
    ofWide: (a, b) => (wideCount(b) < 64n ? a << wideCount(b) : 0n),
  },
  'shift-right-arithmetic': {
    takes: 'integer',
    ofIntegers: (a, b, bits) => signedBits(a, bits) >> Math.min(b >>> 0, 31),
    ofWide: (a, b) => BigInt.asIntN(64, a) >> (wideCount(b) < 64n ? wideCount(b) : 63n),
  },
  'shift-right-logical': {
    takes: 'integer',
    ofIntegers: (a, b, bits) => (b >>> 0 < bits ? unsignedBits(a, bits) >>> b : 0),
    ofWide: (a, b) => (wideCount(b) < 64n ? BigInt.asUintN(64, a) >> wideCount(b) : 0n),
  },
  atan2: { takes: 'float', ofFloats: onNumbers(atan2) },
};

/** Returns the count of a shift of a 64-bit integer, which is unsigned. */
function wideCount(count: bigint): bigint {
  return BigInt.asUintN(64, count);
}

function both(
  of: (a: number, b: number) => number,
): Required<Pick<BinaryOp, 'ofFloats' | 'ofIntegers'>> {
  return { ofFloats: of, ofIntegers: of };
}

function definitionOf(opcode: BinaryOpcode): Definition<Binary> {
  const op: BinaryOp = ops[opcode];
  const elementOf = (type: ElementType): ((a: Scalar, b: Scalar) => Scalar) => {
    const { kind, bits } = elementTypes[type];
    const round = rounderOf(type);
    const { ofWide } = op;
    if (storedOf(type).isWide) {
      assert(ofWide !== undefined, `${opcode} of ${type} has a definition`);
      return (a, b) => round(ofWide(a as bigint, b as bigint));
    }
    const plain = kind === 'float' ? op.ofFloats : op.ofIntegers;
    assert(plain !== undefined, `${opcode} of ${type} has a definition`);
    return (a, b) => round(plain(a as number, b as number, bits));
  };
  return {
    family: 'elementwise',
    accepts: typesOfKind(op.takes),
    infer: (it) => {
      const [a] = equalOperands(it);
      expectKind(it, op.takes, a);
      return a;
    },
    evaluate: ({ shape }, [a, b]) =>
      mapped(shape, [literalOf(a!), literalOf(b!)], elementOf(shape.type)),
    element: ({ shape }) => elementOf(shape.type),
  };
}

/** Element-wise operations on two arrays. */
export const binaryDefinitions: DefinitionsOf<Binary> = Object.fromEntries(
  binaryOpcodes.map((opcode) => [opcode, definitionOf(opcode)]),
) as unknown as DefinitionsOf<Binary>;
