import { bf16FromF32, f32FromBf16 } from './bf16.ts';
import { signedBits, unsignedBits } from './integer-bits.ts';
import type { FloatFormat } from './reduce-precision.ts';
import { decodeSmallFloat, encodeSmallFloat, type SmallFloat } from './small-float.ts';

/** Interpretation of the bits of an element. */
export type ElementKind = 'pred' | 'signed' | 'unsigned' | 'float' | 'complex';

/** Name of an element type, in XLA's spelling. */
export type ElementType =
  | 'pred'
  | 's2'
  | 's4'
  | 's8'
  | 's16'
  | 's32'
  | 's64'
  | 'u2'
  | 'u4'
  | 'u8'
  | 'u16'
  | 'u32'
  | 'u64'
  | 'f8e5m2'
  | 'f8e4m3'
  | 'f8e4m3fn'
  | 'f8e3m4'
  | 'f8e4m3b11fnuz'
  | 'f8e5m2fnuz'
  | 'f8e4m3fnuz'
  | 'bf16'
  | 'f16'
  | 'f32'
  | 'f64'
  | 'c64'
  | 'c128';

/** An element as a value of JavaScript: a bigint for 64-bit integers, a number for other types. */
export type Scalar = number | bigint;

/** Elements of an array in memory. */
export type ElementArray =
  | BigInt64Array
  | BigUint64Array
  | Float64Array
  | Float32Array
  | Int32Array
  | Uint32Array
  | Int16Array
  | Uint16Array
  | Int8Array
  | Uint8Array;

/** What is known of an element type. [XLA, xla_data.proto] */
export interface ElementTraits {
  /** Width in bits. An element of less than 8 bits takes a byte in memory. */
  readonly bits: number;
  readonly kind: ElementKind;
  /** Format of a float whose bits are those of IEEE 754: sign, exponent, mantissa. */
  readonly ieee?: FloatFormat;
  /** How elements are stored. Undefined for complex types, for which there is no storage yet. */
  readonly stored?: Stored;
}

/** How the elements of a type are stored and rounded. */
export type Stored = StoredNumbers | StoredBigints;

/** How elements that are numbers of JavaScript are stored and rounded. */
export interface StoredNumbers {
  readonly isWide: false;
  /** Returns memory for `count` elements, all zero. */
  storage(count: number): Exclude<ElementArray, BigInt64Array | BigUint64Array>;
  /** Returns what memory holds for a number: the nearest element, or for integers the lowest bits. */
  encode(value: number): number;
  /** Returns the number that memory holds as `stored`. */
  decode(stored: number): number;
  /** Least and greatest number of an integer type, or of pred. */
  readonly range?: { readonly least: number; readonly most: number };
}

/** How integers of 64 bits are stored: as they are. */
export interface StoredBigints {
  readonly isWide: true;
  storage(count: number): BigInt64Array | BigUint64Array;
  /** Returns the lowest 64 bits of an integer, as an integer of the type. */
  encode(value: bigint): bigint;
  decode(stored: bigint): bigint;
  readonly range: { readonly least: bigint; readonly most: bigint };
}

const same = (value: number): number => value;
const sameBigint = (value: bigint): bigint => value;

function signed(bits: number, storage: StoredNumbers['storage']): ElementTraits {
  const encode = (value: number): number => signedBits(value, bits);
  const range = { least: -(2 ** (bits - 1)), most: 2 ** (bits - 1) - 1 };
  return { bits, kind: 'signed', stored: { isWide: false, storage, encode, decode: same, range } };
}

function unsigned(bits: number, storage: StoredNumbers['storage']): ElementTraits {
  const encode = (value: number): number => unsignedBits(value, bits);
  const range = { least: 0, most: 2 ** bits - 1 };
  return {
    bits,
    kind: 'unsigned',
    stored: { isWide: false, storage, encode, decode: same, range },
  };
}

function float(
  bits: number,
  ieee: FloatFormat | undefined,
  numbers: Omit<StoredNumbers, 'isWide'>,
): ElementTraits {
  const format = ieee === undefined ? {} : { ieee };
  return { bits, kind: 'float', ...format, stored: { isWide: false, ...numbers } };
}

function smallFloat(bits: number, format: SmallFloat): ElementTraits {
  return float(bits, format.special === 'ieee' ? format : undefined, {
    storage: bits === 8 ? bytes : halves,
    encode: (value) => encodeSmallFloat(format, value),
    decode: (code) => decodeSmallFloat(format, code),
  });
}

function f8(exponentBits: number, bias: number, special: SmallFloat['special']): ElementTraits {
  return smallFloat(8, { exponentBits, mantissaBits: 7 - exponentBits, bias, special });
}

const bytes = (count: number): Uint8Array => new Uint8Array(count);
const signedBytes = (count: number): Int8Array => new Int8Array(count);
const halves = (count: number): Uint16Array => new Uint16Array(count);

/** Traits of every element type. A float of at most 16 bits is stored as its bits. */
export const elementTypes: Readonly<Record<ElementType, ElementTraits>> = {
  pred: {
    bits: 8,
    kind: 'pred',
    stored: {
      isWide: false,
      ...{ storage: bytes, encode: same, decode: same, range: { least: 0, most: 1 } },
    },
  },
  s2: signed(2, signedBytes),
  s4: signed(4, signedBytes),
  s8: signed(8, signedBytes),
  s16: signed(16, (count) => new Int16Array(count)),
  s32: signed(32, (count) => new Int32Array(count)),
  s64: {
    bits: 64,
    kind: 'signed',
    stored: {
      isWide: true,
      storage: (count) => new BigInt64Array(count),
      encode: (value) => BigInt.asIntN(64, value),
      decode: sameBigint,
      range: { least: -(2n ** 63n), most: 2n ** 63n - 1n },
    },
  },
  u2: unsigned(2, bytes),
  u4: unsigned(4, bytes),
  u8: unsigned(8, bytes),
  u16: unsigned(16, halves),
  u32: unsigned(32, (count) => new Uint32Array(count)),
  u64: {
    bits: 64,
    kind: 'unsigned',
    stored: {
      isWide: true,
      storage: (count) => new BigUint64Array(count),
      encode: (value) => BigInt.asUintN(64, value),
      decode: sameBigint,
      range: { least: 0n, most: 2n ** 64n - 1n },
    },
  },
  f8e5m2: f8(5, 15, 'ieee'),
  f8e4m3: f8(4, 7, 'ieee'),
  f8e4m3fn: f8(4, 7, 'fn'),
  f8e3m4: f8(3, 3, 'ieee'),
  f8e4m3b11fnuz: f8(4, 11, 'fnuz'),
  f8e5m2fnuz: f8(5, 16, 'fnuz'),
  f8e4m3fnuz: f8(4, 8, 'fnuz'),
  bf16: float(
    16,
    { exponentBits: 8, mantissaBits: 7 },
    { storage: halves, encode: bf16FromF32, decode: f32FromBf16 },
  ),
  f16: smallFloat(16, { exponentBits: 5, mantissaBits: 10, bias: 15, special: 'ieee' }),
  f32: float(
    32,
    { exponentBits: 8, mantissaBits: 23 },
    {
      storage: (count) => new Float32Array(count),
      encode: Math.fround,
      decode: same,
    },
  ),
  f64: float(64, undefined, {
    storage: (count) => new Float64Array(count),
    encode: same,
    decode: same,
  }),
  c64: { bits: 64, kind: 'complex' },
  c128: { bits: 128, kind: 'complex' },
};

const names = Object.keys(elementTypes) as ElementType[];

/**
 * Element types with which HLO programs can compute: all but complex types, and f64, for which the
 * transcendental functions are missing. The verifier refuses any other type.
 */
export const computedTypes: readonly ElementType[] = names.filter(
  (type) => elementTypes[type].stored !== undefined && type !== 'f64',
);

/** Element types with which the core of a chip computes. */
export type CoreType = 'pred' | 's32' | 'u32' | 'bf16' | 'f32';
/** All values of {@link CoreType}. */
export const coreTypes: readonly ElementType[] = ['pred', 's32', 'u32', 'bf16', 'f32'];

/**
 * Returns the least value of an element type, which is the neutral element of `maximum`. It is −∞, or
 * the least number if the type has no infinities.
 */
export function leastOf(type: ElementType): Scalar {
  const { stored, bits } = elementTypes[type];
  if (stored?.range !== undefined) return stored.range.least;
  if (stored === undefined || stored.isWide) return Number.NEGATIVE_INFINITY;
  if (!Number.isNaN(stored.decode(stored.encode(Number.NEGATIVE_INFINITY)))) return -Infinity;
  const all = Array.from({ length: 2 ** bits }, (_, code) => stored.decode(code));
  return Math.min(...all.filter(Number.isFinite));
}

/** Bytes of one element in HBM. An element of less than 8 bits takes 1 byte. */
export function elementBytes(type: ElementType): number {
  return Math.max(1, elementTypes[type].bits / 8);
}

/** True if `text` is the name of an element type. */
export function isElementType(text: string): text is ElementType {
  return Object.hasOwn(elementTypes, text);
}
