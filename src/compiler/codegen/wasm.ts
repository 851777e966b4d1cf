/*
 * The part of WebAssembly's binary format that generated loops need. Numbers of sections and
 * opcodes: [WebAssembly Core Specification 2.0, chapter 5]. There are no relaxed SIMD instructions,
 * because their results may differ between machines.
 */

/** Types of WebAssembly parameters, locals and results, with their byte in the binary format. */
export const valueTypes = { i32: 0x7f, f32: 0x7d, f64: 0x7c, v128: 0x7b } as const;
/** A type of WebAssembly values. */
export type ValueType = keyof typeof valueTypes;

/**
 * A WebAssembly function: its type, the types of its locals (without the parameters) and its
 * instructions.
 */
export interface WasmFunction {
  readonly parameters: readonly ValueType[];
  readonly results: readonly ValueType[];
  readonly locals: readonly ValueType[];
  /** Bytes of the instructions, without the `end` that closes the function. */
  readonly code: readonly number[];
  /**
   * Name under which the module exports the function. A function without this name is not exported.
   */
  readonly exported?: string;
}

/**
 * Returns the bytes of a WebAssembly module with the given functions. The module imports its
 * memory, which threads share, as `env.memory`.
 */
export function encodeModule(functions: readonly WasmFunction[]): Uint8Array {
  return Uint8Array.from([
    ...[0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00],
    ...section(1, vector(functions.map(functionType))),
    ...section(2, vector([importedMemory()])),
    ...section(3, vector(functions.map((_, i) => unsigned(i)))),
    ...section(7, vector(functions.flatMap(exportOf))),
    ...section(10, vector(functions.map(functionBody))),
  ]);
}

/** Returns the LEB128 encoding of an unsigned 32-bit integer. */
export function unsigned(value: number): number[] {
  const bytes: number[] = [];
  let rest = value >>> 0;
  for (; rest >= 0x80; rest >>>= 7) bytes.push((rest & 0x7f) | 0x80);
  return [...bytes, rest];
}

/** Returns the LEB128 encoding of a signed 32-bit integer. */
export function signed(value: number): number[] {
  const bytes: number[] = [];
  let rest = value | 0;
  while (rest < -0x40 || rest >= 0x40) {
    bytes.push((rest & 0x7f) | 0x80);
    rest >>= 7;
  }
  return [...bytes, rest & 0x7f];
}

/** Returns the four bytes of a 32-bit word, the lowest byte first. */
export function wordBytes(word: number): number[] {
  return [word & 0xff, (word >>> 8) & 0xff, (word >>> 16) & 0xff, word >>> 24];
}

/** Opcodes of instructions that have no immediates and are not SIMD. */
export const scalar = {
  return: 0x0f,
  select: 0x1b,
  i32Eqz: 0x45,
  i32Eq: 0x46,
  i32LtU: 0x49,
  i32LeU: 0x4d,
  i32Add: 0x6a,
  i32Sub: 0x6b,
  i32Mul: 0x6c,
  i32DivS: 0x6d,
  i32DivU: 0x6e,
  i32RemS: 0x6f,
  i32RemU: 0x70,
  i32And: 0x71,
  i32Or: 0x72,
  i32Shl: 0x74,
  i32ShrS: 0x75,
  i32ShrU: 0x76,
  i32LtS: 0x48,
  i32GtS: 0x4a,
  f64Lt: 0x63,
  f64Gt: 0x64,
  f64Ge: 0x66,
  f64Abs: 0x99,
  f64Sub: 0xa1,
  f64Mul: 0xa2,
  f64Copysign: 0xa6,
  i64Add: 0x7c,
  i64Sub: 0x7d,
  i64And: 0x83,
  f32DemoteF64: 0xb6,
  f64PromoteF32: 0xbb,
  i64ReinterpretF64: 0xbd,
  f64ReinterpretI64: 0xbf,
} as const;

/** Opcodes of SIMD instructions: the numbers that follow the prefix 0xfd. */
export const simd = {
  load: 0x00,
  load16x4U: 0x04,
  load32Splat: 0x09,
  store: 0x0b,
  const: 0x0c,
  i8x16Shuffle: 0x0d,
  i32x4Splat: 0x11,
  f32x4Splat: 0x13,
  i32x4ExtractLane: 0x1b,
  i32x4ReplaceLane: 0x1c,
  f32x4ExtractLane: 0x1f,
  f32x4ReplaceLane: 0x20,
  i32x4Eq: 0x37,
  i32x4Ne: 0x38,
  i32x4LtS: 0x39,
  i32x4LtU: 0x3a,
  i32x4GtS: 0x3b,
  i32x4GtU: 0x3c,
  i32x4LeS: 0x3d,
  i32x4LeU: 0x3e,
  i32x4GeS: 0x3f,
  i32x4GeU: 0x40,
  f32x4Eq: 0x41,
  f32x4Ne: 0x42,
  f32x4Lt: 0x43,
  f32x4Gt: 0x44,
  f32x4Le: 0x45,
  f32x4Ge: 0x46,
  not: 0x4d,
  and: 0x4e,
  andNot: 0x4f,
  or: 0x50,
  xor: 0x51,
  bitSelect: 0x52,
  load32Lane: 0x56,
  store32Lane: 0x5a,
  store64Lane: 0x5b,
  load32Zero: 0x5c,
  i8x16Popcnt: 0x62,
  i8x16NarrowI16x8U: 0x66,
  f32x4Ceil: 0x67,
  f32x4Floor: 0x68,
  f32x4Nearest: 0x6a,
  i16x8ExtAddPairwiseI8x16U: 0x7d,
  i32x4ExtAddPairwiseI16x8U: 0x7f,
  i16x8NarrowI32x4S: 0x85,
  i16x8NarrowI32x4U: 0x86,
  i16x8ExtendLowI8x16U: 0x89,
  i32x4Abs: 0xa0,
  i32x4Neg: 0xa1,
  i32x4ExtendLowI16x8U: 0xa9,
  i32x4Shl: 0xab,
  i32x4ShrS: 0xac,
  i32x4ShrU: 0xad,
  i32x4Add: 0xae,
  i32x4Sub: 0xb1,
  i32x4Mul: 0xb5,
  i32x4MinS: 0xb6,
  i32x4MinU: 0xb7,
  i32x4MaxS: 0xb8,
  i32x4MaxU: 0xb9,
  f32x4Abs: 0xe0,
  f32x4Neg: 0xe1,
  f32x4Sqrt: 0xe3,
  f32x4Add: 0xe4,
  f32x4Sub: 0xe5,
  f32x4Mul: 0xe6,
  f32x4Div: 0xe7,
  f32x4Min: 0xe8,
  f32x4Max: 0xe9,
  f32x4PMin: 0xea,
  f32x4PMax: 0xeb,
  i32x4TruncSatF32x4S: 0xf8,
  i32x4TruncSatF32x4U: 0xf9,
  f32x4ConvertI32x4S: 0xfa,
  f32x4ConvertI32x4U: 0xfb,
} as const;
/** Name of a SIMD instruction in the table {@link simd}. */
export type SimdOpcode = keyof typeof simd;

/** Returns the bytes of a SIMD instruction with its immediates. */
export function simdCode(opcode: SimdOpcode, ...immediates: readonly number[]): number[] {
  return [0xfd, ...unsigned(simd[opcode]), ...immediates];
}

/**
 * Returns the immediates of a load or store: the alignment (log2 of bytes, only a hint) and a
 * constant offset in bytes that is added to the address.
 */
export function memoryArgument(alignmentLog2: number, offset: number): number[] {
  return [alignmentLog2, ...unsigned(offset)];
}

/** Returns the code that pushes the value of a local onto the stack. */
export function localGet(local: number): number[] {
  return [0x20, ...unsigned(local)];
}
/** Returns the code that pops a value off the stack into a local. */
export function localSet(local: number): number[] {
  return [0x21, ...unsigned(local)];
}
/** Returns the code that pushes a constant i32 onto the stack. */
export function i32Const(value: number): number[] {
  return [0x41, ...signed(value)];
}
/** Returns the code that calls a function by its index in the module. */
export function call(functionIndex: number): number[] {
  return [0x10, ...unsigned(functionIndex)];
}
/**
 * Returns a loop that runs `code` at least once. After each run the loop pops an i32 off the stack
 * and runs `code` again if the i32 is not 0.
 */
export function loopWhile(code: readonly number[]): number[] {
  return [0x03, 0x40, ...code, 0x0d, 0x00, 0x0b];
}
/** Returns code that pops an i32 off the stack and runs `code` if the i32 is not 0. */
export function ifThen(code: readonly number[]): number[] {
  return [0x04, 0x40, ...code, 0x0b];
}

function section(number: number, content: readonly number[]): number[] {
  return [number, ...unsigned(content.length), ...content];
}

function vector(items: readonly (readonly number[])[]): number[] {
  return [...unsigned(items.length), ...items.flat()];
}

function functionType({ parameters, results }: WasmFunction): number[] {
  const types = (list: readonly ValueType[]) => vector(list.map((type) => [valueTypes[type]]));
  return [0x60, ...types(parameters), ...types(results)];
}

/**
 * Returns the import `env.memory`: a memory that threads share, of at most 65,536 pages of 64 KiB.
 */
function importedMemory(): number[] {
  return [...text('env'), ...text('memory'), 0x02, 0x03, ...unsigned(0), ...unsigned(65536)];
}

function exportOf({ exported }: WasmFunction, index: number): number[][] {
  return exported === undefined ? [] : [[...text(exported), 0x00, ...unsigned(index)]];
}

function functionBody({ locals, code }: WasmFunction): number[] {
  const declared = vector(runs(locals).map(([type, n]) => [...unsigned(n), valueTypes[type]]));
  return [...unsigned(declared.length + code.length + 1), ...declared, ...code, 0x0b];
}

/**
 * Returns the runs of equal neighbouring types, each with its length. WebAssembly declares the
 * locals of a function in this form.
 */
function runs(types: readonly ValueType[]): [ValueType, number][] {
  const list: [ValueType, number][] = [];
  for (const type of types) {
    const last = list.at(-1);
    if (last?.[0] === type) last[1]++;
    else list.push([type, 1]);
  }
  return list;
}

function text(name: string): number[] {
  const bytes = new TextEncoder().encode(name);
  return [...unsigned(bytes.length), ...bytes];
}
