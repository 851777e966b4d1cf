import type { ElementType } from '../../numerics/element-type.ts';
import { onNumber, roundNearestEven } from '../../numerics/f32-ops.ts';
import { arrayShape } from '../../numerics/shape.ts';
import * as lanes from '../../numerics/transcendental.ts';
import { mapped } from '../evaluate/mapped.ts';
import { asType, literalOf } from '../evaluate/value.ts';
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
   * wraps modulo 2^32.
   */
  readonly of: (x: number) => number;
  /** Computes one element of a pred, if this differs from `of`. */
  readonly ofPred?: (x: number) => number;
}

const ops: { readonly [O in UnaryOpcode]: UnaryOp } = {
  abs: { takes: 'signed', of: Math.abs },
  ceil: { takes: 'float', of: Math.ceil },
  cosine: { takes: 'float', of: onNumber(lanes.cos) },
  exponential: { takes: 'float', of: onNumber(lanes.exp) },
  'exponential-minus-one': { takes: 'float', of: onNumber(lanes.expm1) },
  floor: { takes: 'float', of: Math.floor },
  'is-finite': { takes: 'float', gives: 'pred', of: (x) => Number(Number.isFinite(x)) },
  log: { takes: 'float', of: onNumber(lanes.log) },
  'log-plus-one': { takes: 'float', of: onNumber(lanes.log1p) },
  logistic: { takes: 'float', of: onNumber(lanes.logistic) },
  negate: { takes: 'number', of: (x) => -x },
  not: { takes: 'bits', of: (x) => ~x, ofPred: (x) => 1 - x },
  'round-nearest-even': { takes: 'float', of: roundNearestEven },
  rsqrt: { takes: 'float', of: onNumber(lanes.rsqrt) },
  sign: { takes: 'signed', of: Math.sign },
  sine: { takes: 'float', of: onNumber(lanes.sin) },
  sqrt: { takes: 'float', of: Math.sqrt },
  tanh: { takes: 'float', of: onNumber(lanes.tanh) },
};

function definitionOf(opcode: UnaryOpcode): Definition<Unary> {
  const op: UnaryOp = ops[opcode];
  const elementOf = (type: ElementType): ((x: number) => number) => {
    const plain = type === 'pred' ? (op.ofPred ?? op.of) : op.of;
    return (x) => asType(op.gives ?? type, plain(x));
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
