import { assert } from '../../numerics/assert.ts';
import { cbrt } from '../../numerics/cube-root.ts';
import { type ElementType, elementTypes, type Scalar } from '../../numerics/element-type.ts';
import { erf } from '../../numerics/error-function.ts';
import { onNumber, roundNearestAway, roundNearestEven } from '../../numerics/f32-ops.ts';
import { unsignedBits } from '../../numerics/integer-bits.ts';
import { storedOf } from '../../numerics/literal.ts';
import { arrayShape } from '../../numerics/shape.ts';
import { tan } from '../../numerics/tangent.ts';
import * as lanes from '../../numerics/transcendental.ts';
import { mapped } from '../evaluate/mapped.ts';
import { literalOf } from '../evaluate/value.ts';
import type { InstructionBase } from '../instruction.ts';
import { arrayOperand, expectKind, expectOperands, type Kind, typesOfKind } from './check.ts';
import type { Definition, DefinitionsOf } from './definition.ts';

/** Opcodes of element-wise operations on one array. */
export const unaryOpcodes = [
  'abs',
  'ceil',
  'cosine',
  'exponential',
  'exponential-minus-one',
  'floor',
  'is-finite',
  'log',
  'log-plus-one',
  'logistic',
  'negate',
  'not',
  'round-nearest-even',
  'rsqrt',
  'sign',
  'sine',
  'sqrt',
  'tanh',
  'cbrt',
  'tan',
  'erf',
  'round-nearest-afz',
  'popcnt',
  'count-leading-zeros',
] as const;

/** One of {@link unaryOpcodes}. */
export type UnaryOpcode = (typeof unaryOpcodes)[number];

/** An element-wise operation on one array. Operand: x. */
export interface Unary extends InstructionBase<UnaryOpcode> {}

/** Definition of an element-wise operation on one array. */
interface UnaryOp {
  /** Kind of elements that the operation accepts. */
  readonly takes: Kind;
  /** Element type of the result. Default: that of the operand. */
  readonly gives?: ElementType;
  /**
   * Computes one element. Floats are computed in f32. The result is rounded to the element type, or
   * wraps to it. `bits` is the width of the element type.
   */
  readonly of: (x: number, bits: number) => number;
  /** Computes one element of a pred, if this differs from `of`. */
  readonly ofPred?: (x: number) => number;
  /** Computes one element of a 64-bit integer, for an operation that accepts integers. */
  readonly ofWide?: (x: bigint) => bigint;
}

const ops: { readonly [O in UnaryOpcode]: UnaryOp } = {
  abs: { takes: 'signed', of: Math.abs, ofWide: (x) => (x < 0n ? -x : x) },
  ceil: { takes: 'float', of: Math.ceil },
  cosine: { takes: 'float', of: onNumber(lanes.cos) },
  exponential: { takes: 'float', of: onNumber(lanes.exp) },
  'exponential-minus-one': { takes: 'float', of: onNumber(lanes.expm1) },
  floor: { takes: 'float', of: Math.floor },
  'is-finite': { takes: 'float', gives: 'pred', of: (x) => Number(Number.isFinite(x)) },
  log: { takes: 'float', of: onNumber(lanes.log) },
  'log-plus-one': { takes: 'float', of: onNumber(lanes.log1p) },
  logistic: { takes: 'float', of: onNumber(lanes.logistic) },
  negate: { takes: 'number', of: (x) => -x, ofWide: (x) => -x },
  not: { takes: 'bits', of: (x) => ~x, ofPred: (x) => 1 - x, ofWide: (x) => ~x },
  'round-nearest-even': { takes: 'float', of: roundNearestEven },
  rsqrt: { takes: 'float', of: onNumber(lanes.rsqrt) },
  sign: {
    takes: 'signed',
    of: Math.sign,
    ofWide: (x) => (x > 0n ? 1n : x < 0n ? -1n : 0n),
  },
  sine: { takes: 'float', of: onNumber(lanes.sin) },
  sqrt: { takes: 'float', of: Math.sqrt },
  tanh: { takes: 'float', of: onNumber(lanes.tanh) },
  cbrt: { takes: 'float', of: onNumber(cbrt) },
  tan: { takes: 'float', of: onNumber(tan) },
  erf: { takes: 'float', of: onNumber(erf) },
  'round-nearest-afz': { takes: 'float', of: roundNearestAway },
  popcnt: { takes: 'integer', of: populationCount, ofWide: widePopulationCount },
  'count-leading-zeros': {
    takes: 'integer',
    of: (x, bits) => Math.clz32(unsignedBits(x, bits)) - (32 - bits),
    ofWide: (x) => BigInt(/^0*/.exec(wideBits(x))![0].length),
  },
};

/** Number of ones among the lowest `bits` bits of an integer. */
function populationCount(x: number, bits: number): number {
  let count = 0;
  for (let rest = unsignedBits(x, bits); rest !== 0; rest >>>= 1) count += rest & 1;
  return count;
}

/** Number of ones among the bits of a 64-bit integer. */
function widePopulationCount(x: bigint): bigint {
  return BigInt(wideBits(x).replaceAll('0', '').length);
}

/** The bits of a 64-bit integer as 64 digits, the highest bit first. */
function wideBits(x: bigint): string {
  return BigInt.asUintN(64, x).toString(2).padStart(64, '0');
}

function definitionOf(opcode: UnaryOpcode): Definition<Unary> {
  const op: UnaryOp = ops[opcode];
  // `mapped` rounds the element to the type of the result.
  const elementOf = (type: ElementType): ((x: Scalar) => Scalar) => {
    const { ofWide } = op;
    if (storedOf(type).isWide) {
      assert(ofWide !== undefined, `${opcode} of ${type} has a definition`);
      return (x) => ofWide(x as bigint);
    }
    const plain = type === 'pred' ? (op.ofPred ?? op.of) : op.of;
    const { bits } = elementTypes[type];
    return (x) => plain(x as number, bits);
  };
  return {
    family: 'elementwise',
    accepts: typesOfKind(op.takes),
    infer: (it) => {
      expectOperands(it, 1);
      const operand = arrayOperand(it, 0);
      expectKind(it, op.takes, operand);
      return op.gives === undefined ? operand : arrayShape(op.gives, operand.dims);
    },
    evaluate: ({ shape }, [x]) => {
      const value = literalOf(x!);
      return mapped(shape, [value], elementOf(value.shape.type));
    },
  };
}

/** Element-wise operations on one array. */
export const unaryDefinitions: DefinitionsOf<Unary> = Object.fromEntries(
  unaryOpcodes.map((opcode) => [opcode, definitionOf(opcode)]),
) as unknown as DefinitionsOf<Unary>;
