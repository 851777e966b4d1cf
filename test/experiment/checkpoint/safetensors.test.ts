import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  decodeSafetensors,
  encodeSafetensors,
  type Safetensors,
  type Tensor,
} from '../../../src/experiment/checkpoint/safetensors.ts';
import { type ElementType, elementBytes } from '../../../src/numerics/element-type.ts';
import { PodError } from '../../../src/numerics/error.ts';
import { arrayShape, byteCount } from '../../../src/numerics/shape.ts';
import { tensor } from './snapshots.ts';

const types: readonly ElementType[] = [
  ...(['pred', 's8', 's16', 's32', 's64', 'u8', 'u16', 'u32', 'u64'] as const),
  ...(['f8e4m3fn', 'f8e5m2', 'bf16', 'f16', 'f32', 'f64', 'c64'] as const),
];

const anyTensor: fc.Arbitrary<Tensor> = fc
  .record({
    name: fc.string({ unit: 'binary' }).filter((it) => it !== '__metadata__'),
    type: fc.constantFrom(...types),
    dims: fc.array(fc.nat(4), { maxLength: 3 }),
  })
  .map(({ name, type, dims }) => tensor('any', name, arrayShape(type, dims)));
const anyFile: fc.Arbitrary<Safetensors> = fc.record({
  tensors: fc.uniqueArray(anyTensor, { selector: ({ name }) => wellFormed(name), maxLength: 6 }),
  metadata: fc.dictionary(fc.string(), fc.string()),
});

describe('invariants of the safetensors format', () => {
  test('names, shapes, bytes and metadata are decoded as they were encoded', () => {
    fc.assert(
      fc.property(anyFile, (file) => {
        const { tensors, metadata } = decodeSafetensors(joined(encodeSafetensors(file)));
        expect(byName(tensors)).toEqual(byName(file.tensors));
        expect(Object.entries(metadata)).toEqual(Object.entries(file.metadata));
      }),
    );
  });

  test('each tensor is aligned to its elements', () => {
    fc.assert(
      fc.property(anyFile, (file) => {
        for (const { bytes, shape } of decodeSafetensors(joined(encodeSafetensors(file))).tensors) {
          const align = Math.min(8, elementBytes(shape.type));
          if (bytes.length > 0) expect(bytes.byteOffset % align).toBe(0);
        }
      }),
    );
  });

  test('any bytes give tensors that fill the file, or a PodError of one line', () => {
    const changed = fc
      .tuple(anyFile, fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 4 }), fc.nat())
      .map(([file, changes, cut]) => {
        const bytes = joined(encodeSafetensors(file));
        for (const [place, value] of changes) bytes[place % bytes.length] = value;
        return cut % 3 === 0 ? bytes.subarray(0, cut % bytes.length) : bytes;
      });
    fc.assert(
      fc.property(fc.oneof(changed, fc.uint8Array({ maxLength: 64 })), (bytes) => {
        try {
          const { tensors } = decodeSafetensors(bytes);
          const data = tensors.reduce((sum, it) => sum + byteCount(it.shape), 0);
          expect(8 + headerBytes(bytes) + data).toBe(bytes.length);
        } catch (error) {
          if (!(error instanceof PodError)) throw error;
          expect(error.code).toBe('bad-data');
          expect(error.message).not.toMatch(/\p{Cc}/u);
        }
      }),
      { numRuns: 500 },
    );
  });
});

test('a small file is encoded byte by byte as documented', () => {
  const shape = arrayShape('f32', [1, 2]);
  const values = new Uint8Array(new Float32Array([1, -2]).buffer);
  const file = joined(
    encodeSafetensors({ tensors: [{ name: 'w', shape, bytes: values }], metadata: { a: 'b' } }),
  );
  const header =
    '{"__metadata__":{"a":"b"},"w":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}}';
  const padded = header.padEnd(Math.ceil(header.length / 8) * 8);
  expect(file.subarray(0, 8)).toEqual(Uint8Array.of(padded.length, 0, 0, 0, 0, 0, 0, 0));
  expect(new TextDecoder().decode(file.subarray(8, 8 + padded.length))).toBe(padded);
  expect(file.subarray(8 + padded.length)).toEqual(values);
});

const f32 = (begin: number, end: number, dims = [(end - begin) / 4]): object => ({
  dtype: 'F32',
  shape: dims,
  data_offsets: [begin, end],
});

test.each<[string, string | object, number, RegExp]>([
  ['a hole', { a: f32(0, 4), b: f32(8, 12) }, 12, /^b: begins at byte 8, expected 4$/],
  ['an overlap', { a: f32(0, 8), b: f32(4, 12) }, 12, /^b: begins at byte 4, expected 8$/],
  ['two in one place', { a: f32(0, 8), b: f32(0, 8) }, 8, /^b: begins at byte 0, expected 8$/],
  ['a late start', { a: f32(4, 8) }, 8, /^a: begins at byte 4, expected 0$/],
  ['bytes left over', { a: f32(0, 4) }, 5, /^the last tensor ends at byte 4, expected 5$/],
  ['bytes missing', { a: f32(0, 8) }, 7, /^a: ends at byte 8, expected at most 7$/],
  ['a shape too large', { a: f32(0, 8, [3]) }, 8, /^a: f32\[3\] does not fill the bytes 0 to 8$/],
  ['an end before its begin', { a: f32(8, 4, [1]) }, 8, /^a: f32\[1\] does not fill/],
  ['a product too large', { a: f32(0, 0, [2 ** 50, 2 ** 50, 0.5]) }, 0, /^a: expected a shape/],
  ['sizes beyond numbers', { a: f32(0, 8, [2 ** 52, 2 ** 52]) }, 8, /does not fill/],
  ['a negative size', { a: f32(0, 4, [-1]) }, 4, /^a: expected a shape, found \[-1\]$/],
  ['a shape that is none', { a: { ...f32(0, 4), shape: 1 } }, 4, /^a: expected a shape, found 1$/],
  ['one offset', { a: { ...f32(0, 4), data_offsets: [0] } }, 4, /^a: expected two data_offsets/],
  ['an unknown dtype', { a: { ...f32(0, 4), dtype: 'F31' } }, 4, /^a: unknown dtype "F31"$/],
  ['a dtype of Object', { a: { ...f32(0, 4), dtype: 'toString' } }, 4, /^a: unknown dtype/],
  ['a field too many', { a: { ...f32(0, 4), more: 1 } }, 4, /^a: unknown field "more"$/],
  ['no fields', { a: [1] }, 0, /^a: expected dtype, shape and data_offsets$/],
  [
    'metadata of numbers',
    { __metadata__: { a: 1 } },
    0,
    /^__metadata__: expected an object whose values are texts$/,
  ],
  ['a list', '[]', 0, /begins with \{/],
  ['a space before', ' {}', 0, /begins with \{/],
  ['lines in a name', { 'a\n\u001b[2J': f32(4, 8) }, 8, /^a \[2J: begins at byte 4, expected 0$/],
  ['no JSON', '{', 0, /expected a header in JSON/],
  [
    'a name twice',
    '{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"\\u0061":1}',
    0,
    /the key "a" occurs twice/,
  ],
  [
    'a field twice',
    '{"a":{"dtype":"U8","shape":[0],"shape":[0],"data_offsets":[0,0]}}',
    0,
    /the key "shape" occurs twice/,
  ],
])('%s is refused in one line', (_, header, dataBytes, message) => {
  const text = typeof header === 'string' ? header : JSON.stringify(header);
  const error = refusal(fileOf(new TextEncoder().encode(text), dataBytes));
  expect(error.code).toBe('bad-data');
  expect(error.message).toMatch(message);
  expect(error.message).not.toContain('\n');
});

test('a header that is too long or not text is refused', () => {
  const file = fileOf(new TextEncoder().encode('{}'), 0);
  for (const length of [3n, 2n ** 32n, 2n ** 64n - 1n]) {
    new DataView(file.buffer).setBigUint64(0, length, true);
    expect(refusal(file).message).toBe(`expected a header of at most 2 bytes, found ${length}`);
  }
  expect(refusal(fileOf(Uint8Array.of(0x7b, 0xff, 0x7d), 0)).message).toMatch(/in JSON/);
  expect(refusal(new Uint8Array(7)).message).toMatch(/expected 8 bytes/);
});

test('a header with 50,000 tensors and a long name is decoded in a short time', () => {
  const names = Array.from({ length: 50_000 }, (_, i) => `layer ${i} "{[\\`);
  const tensors = names.map((name) => ({
    name,
    shape: arrayShape('u8', [1]),
    bytes: Uint8Array.of(1),
  }));
  const long = {
    name: '\\"'.repeat(1_000_000),
    shape: arrayShape('u8', []),
    bytes: Uint8Array.of(2),
  };
  const file = joined(encodeSafetensors({ tensors: [...tensors, long], metadata: {} }));
  expect(decodeSafetensors(file).tensors).toHaveLength(50_001);
});

function refusal(file: Uint8Array): PodError {
  try {
    decodeSafetensors(file);
  } catch (error) {
    if (error instanceof PodError) return error;
    throw error;
  }
  throw new Error('nothing was refused');
}

function fileOf(header: Uint8Array, dataBytes: number): Uint8Array<ArrayBuffer> {
  const file = new Uint8Array(8 + header.length + dataBytes);
  new DataView(file.buffer).setBigUint64(0, BigInt(header.length), true);
  file.set(header, 8);
  return file;
}

function headerBytes(file: Uint8Array): number {
  return Number(new DataView(file.buffer, file.byteOffset).getBigUint64(0, true));
}

function joined(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Buffer.concat(parts));
}

/**
 * Encodes a text to UTF-8 and decodes it again. UTF-8 cannot encode lone surrogates, so each of
 * them becomes the replacement character.
 */
function wellFormed(text: string): string {
  return new TextDecoder().decode(new TextEncoder().encode(text));
}

function byName(tensors: readonly Tensor[]): unknown {
  const sorted = [...tensors].sort((a, b) => (a.name < b.name ? -1 : 1));
  return sorted.map(({ name, shape, bytes }) => ({ name, shape, bytes: [...bytes] }));
}
