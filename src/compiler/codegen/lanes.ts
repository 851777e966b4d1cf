import type { ElementType } from '../../numerics/element-type.ts';
import { bitsFromF32, type F32Ops, f32FromBits } from '../../numerics/f32-ops.ts';
import { type HelperName, helperCall } from './helpers.ts';
import type { FunctionBuilder, Node } from './ssa.ts';
import { type SimdOpcode, simdCode, wordBytes } from './wasm.ts';

/*
 * Element-wise operations on the four SIMD lanes of a v128. Results have the same bits as the
 * results of hlo/evaluate/elementwise.ts. A lane has 32 bits. It holds an f32, s32 or u32 as it is,
 * a bf16 as the f32 of the same value, and a pred as a mask: all ones for true, all zeros for
 * false.
 */

/** Writes element-wise operations on the four SIMD lanes of a v128. */
export class Lanes {
  readonly #to: FunctionBuilder;
  /** Operations on the f32 values, or on the 32-bit integers, in the lanes. */
  readonly f32: F32Ops<Node>;
  readonly #helpers: Set<HelperName>;

  /** `helpers` collects the names of the helper functions that the code calls. */
  constructor(to: FunctionBuilder, helpers: Set<HelperName>) {
    this.#to = to;
    this.f32 = this.#f32Ops();
    this.#helpers = helpers;
  }

  /** Returns a constant with the same 32 bits in every lane. */
  bits(word: number): Node {
    const bytes = wordBytes(word);
    return this.op(['const', ...bytes, ...bytes, ...bytes, ...bytes]);
  }

  /** Adds a SIMD instruction. `code` is an opcode, or a list of an opcode and its immediates. */
  op(code: SimdOpcode | readonly [SimdOpcode, ...number[]], ...operands: readonly Node[]): Node {
    const bytes = typeof code === 'string' ? simdCode(code) : simdCode(...code);
    return this.#to.node('v128', bytes, ...operands);
  }

  splat(word: Node): Node {
    return this.op('i32x4Splat', word);
  }

  /** Returns lane `lane` of a value as an i32. */
  extract(value: Node, lane: number): Node {
    return this.#to.node('i32', simdCode('i32x4ExtractLane', lane), value);
  }

  replace(value: Node, lane: number, word: Node): Node {
    return this.op(['i32x4ReplaceLane', lane], value, word);
  }

  select(mask: Node, onTrue: Node, onFalse: Node): Node {
    return onTrue === onFalse ? onTrue : this.op('bitSelect', onTrue, onFalse, mask);
  }

  /**
   * Returns code that rounds an f32 to the nearest value of the given type. If the type is `bf16`,
   * the code rounds as numerics/bf16.ts does. For any other type returns `x` unchanged.
   */
  rounded(type: ElementType, x: Node): Node {
    if (type !== 'bf16') return x;
    const o = this.f32;
    const odd = o.and(o.shrU(x, 16), o.constI32(1));
    const sum = o.addI(o.addI(x, o.constI32(0x7fff)), odd);
    const near = o.and(sum, o.constI32(0xffff_0000));
    const sign = o.and(x, o.constI32(0x8000_0000));
    const tiny = o.eq(o.and(near, o.constI32(0x7f80_0000)), o.constF32(0));
    const finite = o.select(tiny, sign, near);
    const quiet = o.or(o.and(x, o.constI32(0xffff_0000)), o.constI32(0x0040_0000));
    return o.select(o.eq(x, x), finite, quiet);
  }

  /**
   * Shifts each lane of `a` by the count in the same lane of `b`. A SIMD shift has one count for
   * all lanes, so it is used only if `b` is one constant of at most 31. In all other cases a helper
   * function shifts each lane separately.
   */
  shift(opcode: SimdOpcode, helper: HelperName, a: Node, b: Node): Node {
    const count = splatConstant(b);
    if (count === undefined || count > 31) return this.eachLane(helper, a, b);
    return this.op(opcode, a, this.#to.i32(count));
  }

  /**
   * Returns the maximum or minimum of two f32. `f32x4Max` and `f32x4Min` are always right, but take
   * seven machine instructions because of NaN and signed zeros. `f32x4PMax` and `f32x4PMin` take
   * one machine instruction, but return their first operand if an operand is NaN or if the operands
   * compare as equal. If the second operand is a constant other than NaN and zero, this is the
   * right result. A constant zero is a special case, because −0 and +0 compare as equal.
   */
  #extreme(which: 'max' | 'min', a: Node, b: Node): Node {
    const [bound, x] = splatConstant(a) === undefined ? [b, a] : [a, b];
    const word = splatConstant(bound);
    const limit = word === undefined ? Number.NaN : f32FromBits(word);
    const plain = which === 'max' ? 'f32x4Max' : 'f32x4Min';
    if (Number.isNaN(limit)) return this.op(plain, a, b);
    if (limit === (which === 'max' ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY)) return x;
    const picked = this.op(which === 'max' ? 'f32x4PMax' : 'f32x4PMin', x, bound);
    if (which === 'min') return Object.is(limit, -0) ? this.op(plain, a, b) : picked;
    // max(−0, +0) must be +0. Adding +0 turns −0 into +0 and changes no other value.
    return Object.is(limit, 0) ? this.op('f32x4Add', picked, bound) : picked;
  }

  /** Returns a value whose lanes all hold lane `lane` of `value`. */
  spreadLane(value: Node, lane: number): Node {
    const bytes = [0, 1, 2, 3].map((i) => 4 * lane + i);
    return this.op(['i8x16Shuffle', ...bytes, ...bytes, ...bytes, ...bytes], value, value);
  }

  /** Calls a helper function for each lane. */
  eachLane(helper: HelperName, a: Node, b: Node): Node {
    this.#helpers.add(helper);
    const lane = (i: number): Node =>
      this.#to.node('i32', helperCall(helper), this.extract(a, i), this.extract(b, i));
    return [1, 2, 3].reduce((sum, i) => this.replace(sum, i, lane(i)), this.splat(lane(0)));
  }

  #f32Ops(): F32Ops<Node> {
    const on =
      (opcode: SimdOpcode) =>
      (...operands: readonly Node[]): Node =>
        this.op(opcode, ...operands);
    const shift =
      (opcode: SimdOpcode) =>
      (a: Node, count: number): Node =>
        this.op(opcode, a, this.#to.i32(count));
    return {
      constF32: (value) => this.bits(bitsFromF32(value)),
      constI32: (value) => this.bits(value),
      add: on('f32x4Add'),
      sub: on('f32x4Sub'),
      mul: on('f32x4Mul'),
      div: on('f32x4Div'),
      sqrt: on('f32x4Sqrt'),
      neg: on('f32x4Neg'),
      abs: on('f32x4Abs'),
      min: (a, b) => this.#extreme('min', a, b),
      max: (a, b) => this.#extreme('max', a, b),
      nearest: on('f32x4Nearest'),
      lt: on('f32x4Lt'),
      le: on('f32x4Le'),
      eq: on('f32x4Eq'),
      select: (mask, a, b) => this.select(mask, a, b),
      and: on('and'),
      or: on('or'),
      xor: on('xor'),
      shl: shift('i32x4Shl'),
      shrU: shift('i32x4ShrU'),
      shrS: shift('i32x4ShrS'),
      addI: on('i32x4Add'),
      subI: on('i32x4Sub'),
      f32FromI32: on('f32x4ConvertI32x4S'),
      i32FromF32Trunc: on('i32x4TruncSatF32x4S'),
    };
  }
}

/**
 * Returns the 32 bits of a constant node that holds the same bits in every lane. Returns undefined
 * for any other node.
 */
function splatConstant({ code, operands }: Node): number | undefined {
  if (operands.length > 0 || code[0] !== 0xfd || code[1] !== constOpcode) return undefined;
  const [a, b, c, d] = code.slice(2, 6) as [number, number, number, number];
  if (!code.slice(2).every((byte, i) => byte === code[2 + (i & 3)])) return undefined;
  return (a | (b << 8) | (c << 16) | (d << 24)) >>> 0;
}
const constOpcode = simdCode('const')[1];
