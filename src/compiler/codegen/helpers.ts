import {
  call,
  i32Const,
  localGet,
  localSet,
  loopWhile,
  scalar,
  type WasmFunction,
} from './wasm.ts';

/*
 * Helper functions for operations without a SIMD instruction. A helper takes two i32, and generated
 * loops call it once for each lane. Results are equal to those of hlo/evaluate/elementwise.ts.
 */

export const helperNames = [
  's32Divide',
  'u32Divide',
  's32Remainder',
  'u32Remainder',
  'f32Remainder',
  'shiftLeft',
  'shiftRightArithmetic',
  'shiftRightLogical',
] as const;
export type HelperName = (typeof helperNames)[number];

/**
 * Returns the code that calls a helper. The helpers are the first functions of a module, in the
 * order of `helperNames`.
 */
export function helperCall(name: HelperName): number[] {
  return call(helperNames.indexOf(name));
}

/**
 * Returns one function for each name in `helperNames`. A helper that is not in `used` becomes a
 * function that only returns 0, so that every helper has the same index in all modules.
 */
export function helperFunctions(used: ReadonlySet<HelperName>): WasmFunction[] {
  return helperNames.map((name) => (used.has(name) ? helpers[name]() : shell()));
}

const a: readonly number[] = localGet(0);
const b: readonly number[] = localGet(1);

const helpers: Readonly<Record<HelperName, () => WasmFunction>> = {
  s32Divide: () => {
    // Division by 0 or −1 can trap, so the code divides by 1 in these two cases and then selects
    // the right result: −1 for a / 0, and −a for a / −1.
    const special = [...b, ...i32Const(1), scalar.i32Add, ...i32Const(2), scalar.i32LtU];
    const divisor = [...i32Const(1), ...b, ...special, scalar.select];
    const negated = [...i32Const(0), ...a, scalar.i32Sub];
    const chosen = [...negated, ...i32Const(-1), ...b, scalar.select];
    return integer([...chosen, ...a, ...divisor, scalar.i32DivS, ...special, scalar.select]);
  },
  u32Divide: () => {
    const divisor = [...b, ...i32Const(1), ...b, scalar.select];
    const divided = [...a, ...divisor, scalar.i32DivU];
    return integer([...divided, ...i32Const(-1), ...b, scalar.select]);
  },
  s32Remainder: () => integer(remainderBy(scalar.i32RemS)),
  u32Remainder: () => integer(remainderBy(scalar.i32RemU)),
  f32Remainder,
  shiftLeft: () => integer(shiftedBy(scalar.i32Shl)),
  shiftRightLogical: () => integer(shiftedBy(scalar.i32ShrU)),
  shiftRightArithmetic: () => {
    const most = [...b, ...i32Const(31), ...b, ...i32Const(31), scalar.i32LtU, scalar.select];
    return integer([...a, ...most, scalar.i32ShrS]);
  },
};

function remainderBy(opcode: number): number[] {
  const divisor = [...b, ...i32Const(1), ...b, scalar.select];
  return [...a, ...divisor, opcode, ...a, ...b, scalar.select];
}

function shiftedBy(opcode: number): number[] {
  return [...a, ...b, opcode, ...i32Const(0), ...b, ...i32Const(32), scalar.i32LtU, scalar.select];
}

function integer(code: readonly number[]): WasmFunction {
  return { parameters: ['i32', 'i32'], results: ['i32'], locals: [], code };
}

function shell(): WasmFunction {
  return integer(i32Const(0));
}

/**
 * Returns the helper for the remainder of a / b, for f32 values a and b. The remainder has the sign
 * of a. The method is long division. The rest begins as |a|. While the rest is at least |b|, the
 * helper subtracts the largest |b| · 2^k (k an integer) that is not above the rest. The result is
 * exact, because f64 holds all these values exactly. The remainder is NaN if a is infinite, b is 0,
 * or a or b is NaN.
 */
function f32Remainder(): WasmFunction {
  const local = (index: number) => ({ get: localGet(index), set: localSet(index) });
  const from = local(2);
  const by = local(3);
  const part = local(4);
  const promoted = (value: readonly number[]) => [...value, f32FromI32, scalar.f64PromoteF32];
  const exponent = (value: readonly number[]) => [
    ...[...value, scalar.i64ReinterpretF64],
    ...[...i64ExponentMask, scalar.i64And],
  ];
  const step = [
    // `from` is the rest, what is left of |a|; `by` is |b|. `part` is the largest |b| · 2^k that is
    // not above `from`. To find it, the code gives |b| the exponent of `from`, and halves the
    // number if it is above `from`.
    ...[...by.get, scalar.i64ReinterpretF64],
    ...[...exponent(from.get), ...exponent(by.get), scalar.i64Sub, scalar.i64Add],
    ...[scalar.f64ReinterpretI64, ...part.set],
    ...[...part.get, ...f64Half, scalar.f64Mul, ...part.get],
    ...[...part.get, ...from.get, scalar.f64Gt, scalar.select],
    ...part.set,
    ...[...from.get, ...part.get, scalar.f64Sub, ...from.set],
    ...[...from.get, ...by.get, scalar.f64Ge],
  ];
  const defined = [
    ...[...from.get, ...f64Infinity, scalar.f64Lt],
    ...[...by.get, ...f64Zero, scalar.f64Gt, scalar.i32And],
  ];
  const code = [
    ...[...promoted(a), scalar.f64Abs, ...from.set],
    ...[...promoted(b), scalar.f64Abs, ...by.set],
    ...[...defined, scalar.i32Eqz, ...returnIf(i32Const(0x7fc0_0000))],
    ...[...by.get, ...from.get, scalar.f64Gt, ...returnIf(a)],
    ...loopWhile(step),
    ...[...from.get, ...promoted(a), scalar.f64Copysign, scalar.f32DemoteF64, i32FromF32],
  ];
  const locals = ['f64', 'f64', 'f64'] as const;
  return { parameters: ['i32', 'i32'], results: ['i32'], locals, code };
}

const f32FromI32 = 0xbe;
const i32FromF32 = 0xbc;
const f64Zero: readonly number[] = [0x44, 0, 0, 0, 0, 0, 0, 0, 0];
const f64Half: readonly number[] = [0x44, 0, 0, 0, 0, 0, 0, 0xe0, 0x3f];
const f64Infinity: readonly number[] = [0x44, 0, 0, 0, 0, 0, 0, 0xf0, 0x7f];
/** The mask 0x7ff0000000000000 of the exponent bits of an f64, as a signed LEB128 of 64 bits. */
const i64ExponentMask: readonly number[] = [
  0x42, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0xf8, 0xff, 0x00,
];

function returnIf(value: readonly number[]): number[] {
  return [0x04, 0x40, ...value, scalar.return, 0x0b];
}
