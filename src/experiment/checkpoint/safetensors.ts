import { assert } from '../../numerics/assert.ts';
import { type ElementType, elementBytes } from '../../numerics/element-type.ts';
import { type ArrayShape, arrayShape, byteCount, shapeText } from '../../numerics/shape.ts';
import { badData } from './bad-data.ts';
import { duplicateKey } from './duplicate-key.ts';

/** A named array as it lies in memory: little endian, row-major, dense. */
export interface Tensor {
  readonly name: string;
  readonly shape: ArrayShape;
  readonly bytes: Uint8Array;
}

/** Content of a safetensors file. */
export interface Safetensors {
  readonly tensors: readonly Tensor[];
  /** Arbitrary text values by key. */
  readonly metadata: Readonly<Record<string, string>>;
}

/**
 * Encodes a safetensors file. Returns the parts of the file, which the caller writes one after
 * another.
 *
 * The first part has the length of the header in 8 bytes, then the header: JSON, padded with spaces
 * to a multiple of 8 bytes. The other parts are the bytes of the tensors, which are not copied.
 * Tensors with wider elements come first, so that every tensor is aligned to its elements.
 * [huggingface/safetensors, README, "Format"]
 */
export function encodeSafetensors({ tensors, metadata }: Safetensors): readonly Uint8Array[] {
  checkNames(tensors);
  const placed = [...tensors].sort(
    (a, b) => elementBytes(b.shape.type) - elementBytes(a.shape.type),
  );
  let end = 0;
  const entries = placed.map(({ name, shape, bytes }) => {
    assert(bytes.length === byteCount(shape), `${name}: ${bytes.length} of ${shapeText(shape)}`);
    const begin = end;
    end += bytes.length;
    const entry = { dtype: dtypeOf(shape.type), shape: shape.dims, data_offsets: [begin, end] };
    return `${JSON.stringify(name)}:${JSON.stringify(entry)}`;
  });
  const all = [`"${metadataKey}":${JSON.stringify(metadata)}`, ...entries];
  return [headerOf(`{${all.join(',')}}`), ...placed.map(({ bytes }) => bytes)];
}

/**
 * Decodes a safetensors file from an untrusted source. The tensors are views of `file`, in the
 * order of their data. Every byte must belong to the header or to exactly one tensor.
 *
 * @throws PodError `bad-data` naming the first violation of the format.
 */
export function decodeSafetensors(file: Uint8Array): Safetensors {
  const { header, data } = split(file);
  const entries = Object.entries(header).filter(([name]) => name !== metadataKey);
  const tensors = entries.map(([name, entry]) => readEntry(name, entry, data));
  return { tensors: inOrder(tensors, data.length), metadata: readMetadata(header[metadataKey]) };
}

const metadataKey = '__metadata__';

/** Largest header, in bytes, that the safetensors format allows. */
const headerBytesMax = 100_000_000;

/**
 * Names of element types in the safetensors format. An element type that is not listed has no name
 * in the format.
 */
const dtypes: Partial<Readonly<Record<ElementType, string>>> = {
  pred: 'BOOL',
  s8: 'I8',
  s16: 'I16',
  s32: 'I32',
  s64: 'I64',
  u8: 'U8',
  u16: 'U16',
  u32: 'U32',
  u64: 'U64',
  f8e4m3fn: 'F8_E4M3',
  f8e5m2: 'F8_E5M2',
  bf16: 'BF16',
  f16: 'F16',
  f32: 'F32',
  f64: 'F64',
  c64: 'C64',
};
const elementTypeOf: ReadonlyMap<unknown, ElementType> = new Map(
  Object.entries(dtypes).map(([type, dtype]) => [dtype, type as ElementType]),
);

function dtypeOf(type: ElementType): string {
  const dtype = dtypes[type];
  assert(dtype !== undefined, `safetensors have no ${type}`);
  return dtype;
}

function checkNames(tensors: readonly Tensor[]): void {
  const names = new Set(tensors.map(({ name }) => name));
  assert(names.size === tensors.length, 'two tensors of one name');
  assert(!names.has(metadataKey), `a tensor called ${metadataKey}`);
}

function headerOf(json: string): Uint8Array {
  const text = new TextEncoder().encode(json);
  const header = new Uint8Array(8 + Math.ceil(text.length / 8) * 8).fill(0x20);
  new DataView(header.buffer).setBigUint64(0, BigInt(header.length - 8), true);
  header.set(text, 8);
  return header;
}

type Json = Readonly<Record<string, unknown>>;

/** A tensor with its byte range in the file's data. */
interface Placed {
  readonly tensor: Tensor;
  readonly begin: number;
  readonly end: number;
}

function split(file: Uint8Array): { header: Json; data: Uint8Array } {
  if (file.length < 8)
    throw badData(`expected 8 bytes with the header's length, found ${file.length}`);
  const length = new DataView(file.buffer, file.byteOffset, 8).getBigUint64(0, true);
  const room = Math.min(file.length - 8, headerBytesMax);
  if (length > room) throw badData(`expected a header of at most ${room} bytes, found ${length}`);
  const start = 8 + Number(length);
  return { header: parseHeader(file.subarray(8, start)), data: file.subarray(start) };
}

function parseHeader(bytes: Uint8Array): Json {
  if (bytes[0] !== 0x7b) throw badData('expected a header that begins with {');
  let text: string;
  let value: unknown;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    value = JSON.parse(text);
  } catch (cause) {
    throw badData(`expected a header in JSON, found: ${(cause as Error).message}`, cause);
  }
  const twice = duplicateKey(text);
  if (twice !== undefined) throw badData(`the key ${JSON.stringify(twice)} occurs twice`);
  return value as Json;
}

function readEntry(name: string, entry: unknown, data: Uint8Array): Placed {
  if (!isFields(entry)) throw badData(`${name}: expected dtype, shape and data_offsets`);
  const { dtype, shape: dims, data_offsets: offsets, ...others } = entry;
  const [other] = Object.keys(others);
  if (other !== undefined) throw badData(`${name}: unknown field ${JSON.stringify(other)}`);
  const type = elementTypeOf.get(dtype);
  if (type === undefined) throw badData(`${name}: unknown dtype ${JSON.stringify(dtype)}`);
  if (!isCounts(dims)) throw badData(`${name}: expected a shape, found ${JSON.stringify(dims)}`);
  if (!isCounts(offsets) || offsets.length !== 2) {
    throw badData(`${name}: expected two data_offsets, found ${JSON.stringify(offsets)}`);
  }
  const [begin = 0, end = 0] = offsets;
  const shape = arrayShape(type, dims);
  if (end > data.length)
    throw badData(`${name}: ends at byte ${end}, expected at most ${data.length}`);
  if (end - begin !== byteCount(shape)) {
    throw badData(`${name}: ${shapeText(shape)} does not fill the bytes ${begin} to ${end}`);
  }
  return { tensor: { name, shape, bytes: data.subarray(begin, end) }, begin, end };
}

/**
 * Returns the tensors in the order of their byte ranges. Throws `bad-data` if the ranges leave a
 * gap, overlap, or do not end at byte `dataBytes`.
 */
function inOrder(tensors: readonly Placed[], dataBytes: number): Tensor[] {
  const placed = [...tensors].sort((a, b) => a.begin - b.begin || a.end - b.end);
  let end = 0;
  for (const { tensor, begin, end: next } of placed) {
    if (begin !== end) throw badData(`${tensor.name}: begins at byte ${begin}, expected ${end}`);
    end = next;
  }
  if (end !== dataBytes)
    throw badData(`the last tensor ends at byte ${end}, expected ${dataBytes}`);
  return placed.map(({ tensor }) => tensor);
}

function readMetadata(value: unknown): Record<string, string> {
  if (value === undefined) return {};
  if (!isFields(value) || !Object.values(value).every((it) => typeof it === 'string')) {
    throw badData(`${metadataKey}: expected an object whose values are texts`);
  }
  return value as Record<string, string>;
}

function isFields(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isCounts(value: unknown): value is readonly number[] {
  return Array.isArray(value) && value.every((it) => Number.isSafeInteger(it) && it >= 0);
}
