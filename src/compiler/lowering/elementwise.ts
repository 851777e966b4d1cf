import type { BinaryOpcode, InstructionOf, UnaryOpcode } from '../../hlo/instruction.ts';
import { atan2 } from '../../numerics/arc-tangent.ts';
import { at } from '../../numerics/assert.ts';
import { cbrt } from '../../numerics/cube-root.ts';
import { erf } from '../../numerics/error-function.ts';
import { bitsFromF32 } from '../../numerics/f32-ops.ts';
import { tan } from '../../numerics/tangent.ts';
import * as transcendental from '../../numerics/transcendental.ts';
import type { Lanes } from '../codegen/lanes.ts';
import type { Node } from '../codegen/ssa.ts';
import { arrayOf, each } from '../codegen/value.ts';
import type { SimdOpcode } from '../codegen/wasm.ts';
import { type ByKind, forType, integers } from './by-kind.ts';
import { type Loop, operandElement } from './loop.ts';
import type { Lowerings } from './lowering.ts';

/*
 * Element-wise operations on one array, and on two arrays of one shape. An entry has the code for
 * each kind of operands. Results have the same bits as the results of hlo/evaluate/elementwise.ts.
 */

/** Writes the code of an operation on one operand, for four elements in SIMD lanes. */
type UnaryCode = (lanes: Lanes, x: Node) => Node;
/** Writes the code of an operation on two operands, for four elements in SIMD lanes. */
export type BinaryCode = (lanes: Lanes, a: Node, b: Node) => Node;

/** Code of the opcode `maximum`. */
export const maximumCode: ByKind<BinaryCode> = {
  float: (lanes, a, b) => lanes.f32.max(a, b),
  signed: simd('i32x4MaxS'),
  unsigned: simd('i32x4MaxU'),
  pred: simd('or'),
};

/** Code of the opcode `minimum`. */
export const minimumCode: ByKind<BinaryCode> = {
  float: (lanes, a, b) => lanes.f32.min(a, b),
  signed: simd('i32x4MinS'),
  unsigned: simd('i32x4MinU'),
  pred: simd('and'),
};

/** Lowering of the element-wise operations. */
export const elementwise: Lowerings<UnaryOpcode | BinaryOpcode> = {
  abs: unary({ float: (lanes, x) => lanes.f32.abs(x), signed: simd('i32x4Abs') }),
  ceil: unary({ float: simd('f32x4Ceil') }),
  cosine: unary({ float: (lanes, x) => transcendental.cos(lanes.f32, x) }),
  exponential: unary({ float: (lanes, x) => transcendental.exp(lanes.f32, x) }),
  'exponential-minus-one': unary({ float: (lanes, x) => transcendental.expm1(lanes.f32, x) }),
  floor: unary({ float: simd('f32x4Floor') }),
  'is-finite': unary({ float: finiteMask }),
  log: unary({ float: (lanes, x) => transcendental.log(lanes.f32, x) }),
  'log-plus-one': unary({ float: (lanes, x) => transcendental.log1p(lanes.f32, x) }),
  logistic: unary({ float: (lanes, x) => transcendental.logistic(lanes.f32, x) }),
  negate: unary({ float: (lanes, x) => lanes.f32.neg(x), ...integers(simd('i32x4Neg')) }),
  not: unary({ ...integers(simd('not')), pred: simd('not') }),
  'round-nearest-even': unary({ float: (lanes, x) => lanes.f32.nearest(x) }),
  rsqrt: unary({ float: (lanes, x) => transcendental.rsqrt(lanes.f32, x) }),
  sign: unary({ float: signOfFloat, signed: signOfInteger }),
  sine: unary({ float: (lanes, x) => transcendental.sin(lanes.f32, x) }),
  sqrt: unary({ float: (lanes, x) => lanes.f32.sqrt(x) }),
  tanh: unary({ float: (lanes, x) => transcendental.tanh(lanes.f32, x) }),
  cbrt: unary({ float: (lanes, x) => cbrt(lanes.f32, x) }),
  tan: unary({ float: (lanes, x) => tan(lanes.f32, x) }),
  erf: unary({ float: (lanes, x) => erf(lanes.f32, x) }),
  'round-nearest-afz': unary({ float: roundedAway }),
  popcnt: unary(integers(populationCount)),
  'count-leading-zeros': unary(integers(leadingZeros)),

  add: binary({ float: (lanes, a, b) => lanes.f32.add(a, b), ...integers(simd('i32x4Add')) }),
  subtract: binary({ float: (lanes, a, b) => lanes.f32.sub(a, b), ...integers(simd('i32x4Sub')) }),
  multiply: binary({ float: (lanes, a, b) => lanes.f32.mul(a, b), ...integers(simd('i32x4Mul')) }),
  divide: binary({
    float: (lanes, a, b) => lanes.f32.div(a, b),
    signed: (lanes, a, b) => lanes.eachLane('s32Divide', a, b),
    unsigned: (lanes, a, b) => lanes.eachLane('u32Divide', a, b),
  }),
  maximum: binary(maximumCode),
  minimum: binary(minimumCode),
  power: binary({ float: (lanes, a, b) => transcendental.power(lanes.f32, a, b) }),
  remainder: binary({
    float: (lanes, a, b) => lanes.eachLane('f32Remainder', a, b),
    signed: (lanes, a, b) => lanes.eachLane('s32Remainder', a, b),
    unsigned: (lanes, a, b) => lanes.eachLane('u32Remainder', a, b),
  }),
  and: binary({ ...integers(simd('and')), pred: simd('and') }),
  or: binary({ ...integers(simd('or')), pred: simd('or') }),
  xor: binary({ ...integers(simd('xor')), pred: simd('xor') }),
  'shift-left': binary(integers((lanes, a, b) => lanes.shift('i32x4Shl', 'shiftLeft', a, b))),
  'shift-right-arithmetic': binary(
    integers((lanes, a, b) => lanes.shift('i32x4ShrS', 'shiftRightArithmetic', a, b)),
  ),
  'shift-right-logical': binary(
    integers((lanes, a, b) => lanes.shift('i32x4ShrU', 'shiftRightLogical', a, b)),
  ),
  atan2: binary({ float: (lanes, a, b) => atan2(lanes.f32, a, b) }),
};

/** Code that is one SIMD instruction. */
function simd(opcode: SimdOpcode): (lanes: Lanes, ...operands: readonly Node[]) => Node {
  return (lanes, ...operands) => lanes.op(opcode, ...operands);
}

function unary(codes: ByKind<UnaryCode>): { readonly loop: Loop<UnaryOpcode> } {
  return {
    loop: {
      element: (it, point, to) => {
        const code = codeOf(codes, it);
        const x = operandElement(it, 0, point, to);
        return each((node) => to.lanes.rounded(it.shape.type, code(to.lanes, node)), x);
      },
    },
  };
}

function binary(codes: ByKind<BinaryCode>): { readonly loop: Loop<BinaryOpcode> } {
  return {
    loop: {
      element: (it, point, to) => {
        const code = codeOf(codes, it);
        const a = operandElement(it, 0, point, to);
        const b = operandElement(it, 1, point, to);
        return each((x, y) => to.lanes.rounded(it.shape.type, code(to.lanes, x, y)), a, b);
      },
    },
  };
}

/** Returns the code for the kind of the operands. */
function codeOf<T>(codes: ByKind<T>, it: InstructionOf<UnaryOpcode | BinaryOpcode>): T {
  return forType(codes, arrayOf(at(it.operands, 0)).type, it.opcode);
}

/** Returns a mask that is true for a number, and false for NaN and the infinities. */
function finiteMask(lanes: Lanes, x: Node): Node {
  return lanes.op('f32x4Lt', lanes.op('f32x4Abs', x), lanes.bits(bitsFromF32(Infinity)));
}

function signOfFloat({ f32: o }: Lanes, x: Node): Node {
  const one = o.or(o.constF32(1), o.and(x, o.constI32(0x8000_0000)));
  return o.select(o.lt(o.constF32(0), o.abs(x)), one, x);
}

function signOfInteger(lanes: Lanes, x: Node): Node {
  const zero = lanes.bits(0);
  return lanes.op('i32x4Sub', lanes.op('i32x4LtS', x, zero), lanes.op('i32x4GtS', x, zero));
}

/**
 * Rounds to the nearest integral value, ties away from zero. The code rounds the magnitude, ties to
 * even, and adds 1 where this has rounded a tie down.
 */
function roundedAway({ f32: o }: Lanes, x: Node): Node {
  const magnitude = o.abs(x);
  const near = o.nearest(magnitude);
  const isTie = o.eq(o.sub(magnitude, near), o.constF32(0.5));
  return o.or(o.add(near, o.and(isTie, o.constF32(1))), o.and(x, o.constI32(0x8000_0000)));
}

/** Counts the ones of each byte, and adds the counts of the four bytes of a lane. */
function populationCount(lanes: Lanes, x: Node): Node {
  const pairs = lanes.op('i16x8ExtAddPairwiseI8x16U', lanes.op('i8x16Popcnt', x));
  return lanes.op('i32x4ExtAddPairwiseI16x8U', pairs);
}

/** Spreads the highest one to all bits below it. The zeros that are left are the leading ones. */
function leadingZeros(lanes: Lanes, x: Node): Node {
  const { f32: o } = lanes;
  const spread = [1, 2, 4, 8, 16].reduce((bits, count) => o.or(bits, o.shrU(bits, count)), x);
  return populationCount(lanes, lanes.op('not', spread));
}
