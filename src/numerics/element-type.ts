/** Element types of HLO, each with its width in bits and its kind. [XLA, xla_data.proto] */
export const elementTypes: Readonly<Record<ElementType, { bits: number; kind: ElementKind }>> = {
  pred: { bits: 8, kind: 'pred' },
  s2: { bits: 2, kind: 'signed' },
  s4: { bits: 4, kind: 'signed' },
  s8: { bits: 8, kind: 'signed' },
  s16: { bits: 16, kind: 'signed' },
  s32: { bits: 32, kind: 'signed' },
  s64: { bits: 64, kind: 'signed' },
  u2: { bits: 2, kind: 'unsigned' },
  u4: { bits: 4, kind: 'unsigned' },
  u8: { bits: 8, kind: 'unsigned' },
  u16: { bits: 16, kind: 'unsigned' },
  u32: { bits: 32, kind: 'unsigned' },
  u64: { bits: 64, kind: 'unsigned' },
  f8e4m3fn: { bits: 8, kind: 'float' },
  f8e5m2: { bits: 8, kind: 'float' },
  bf16: { bits: 16, kind: 'float' },
  f16: { bits: 16, kind: 'float' },
  f32: { bits: 32, kind: 'float' },
  f64: { bits: 64, kind: 'float' },
  c64: { bits: 64, kind: 'complex' },
  c128: { bits: 128, kind: 'complex' },
};

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
  | 'f8e4m3fn'
  | 'f8e5m2'
  | 'bf16'
  | 'f16'
  | 'f32'
  | 'f64'
  | 'c64'
  | 'c128';

/** Element types with arithmetic. The verifier refuses a module that uses any other type. */
export type ComputedType = 'pred' | 's32' | 'u32' | 'bf16' | 'f32';
/** All values of {@link ComputedType}. */
export const computedTypes: readonly ElementType[] = ['pred', 's32', 'u32', 'bf16', 'f32'];

/** Bytes of one element in HBM. An element of less than 8 bits takes 1 byte. */
export function elementBytes(type: ElementType): number {
  return Math.max(1, elementTypes[type].bits / 8);
}

/** True if `text` is the name of an element type. */
export function isElementType(text: string): text is ElementType {
  return Object.hasOwn(elementTypes, text);
}
