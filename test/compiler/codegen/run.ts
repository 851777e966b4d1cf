import { generate } from '../../../src/compiler/codegen/generate.ts';
import { evaluateComputation, type Value } from '../../../src/hlo/evaluate.ts';
import type { HloComputation } from '../../../src/hlo/instruction.ts';
import { at } from '../../../src/numerics/assert.ts';
import { elementBytes } from '../../../src/numerics/element-type.ts';
import { type Literal, storage } from '../../../src/numerics/literal.ts';
import { type ArrayShape, byteCount, elementCount, isArray } from '../../../src/numerics/shape.ts';

const guardBytes = 64;
const guardByte = 0xa5;

/**
 * Runs the generated function of a computation in a new memory. Returns the targets, which are the
 * results of the function. If target t overwrites the memory of parameter p, `shares` maps the
 * index t to the index p. Throws if the function writes outside its targets.
 */
export function runLoop(
  body: HloComputation,
  args: readonly Literal[],
  shares: ReadonlyMap<number, number> = new Map(),
): Literal[] {
  const shapes = targetShapes(body);
  let end = 1024;
  const place = (shape: ArrayShape): number => {
    const address = end;
    end = Math.ceil((address + byteCount(shape)) / 64) * 64 + guardBytes;
    return address;
  };
  const sources = args.map(({ shape }) => place(shape));
  const targets = shapes.map((shape, t) => {
    const shared = shares.get(t);
    return shared === undefined ? place(shape) : at(sources, shared);
  });
  const memory = new WebAssembly.Memory({
    initial: Math.ceil(end / 65536),
    maximum: 65536,
    shared: true,
  });
  const bytes = new Uint8Array(memory.buffer);
  bytes.fill(guardByte);
  args.forEach(({ data }, i) => {
    bytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), at(sources, i));
  });
  const before = bytes.slice();
  const module = new WebAssembly.Module(
    generate([{ name: 'loop', body }]) as Uint8Array<ArrayBuffer>,
  );
  const instance = new WebAssembly.Instance(module, { env: { memory } });
  (instance.exports['f0'] as (...addresses: number[]) => void)(...sources, ...targets);
  const results = shapes.map((shape, t) => read(bytes, at(targets, t), shape));
  shapes.forEach((shape, t) => {
    before.set(bytes.slice(at(targets, t), at(targets, t) + byteCount(shape)), at(targets, t));
  });
  if (Buffer.compare(before, bytes) !== 0) throw new Error('bytes outside of the targets changed');
  return results;
}

/** Returns the results of `evaluate`. The generated function must return the same. */
export function expected(body: HloComputation, args: readonly Literal[]): Literal[] {
  return flat(evaluateComputation(body, args));
}

/** Returns the bits of each element as an integer, or NaN for every NaN. */
export function bitsOf({ shape, data }: Literal): number[] {
  const words =
    data instanceof Float32Array
      ? new Uint32Array(data.buffer, data.byteOffset, data.length)
      : (data as Uint32Array);
  return Array.from(words, (word) => {
    if (shape.type === 'f32') return (word & 0x7fff_ffff) > 0x7f80_0000 ? Number.NaN : word;
    if (shape.type === 'bf16') return (word & 0x7fff) > 0x7f80 ? Number.NaN : word;
    return word;
  });
}

function targetShapes({ root }: HloComputation): ArrayShape[] {
  const shapes = root.shape.type === 'tuple' ? root.shape.elements : [root.shape];
  return shapes.filter(isArray);
}

function read(bytes: Uint8Array, address: number, shape: ArrayShape): Literal {
  const data = storage(shape.type, elementCount(shape));
  const size = elementCount(shape) * elementBytes(shape.type);
  new Uint8Array(data.buffer).set(bytes.subarray(address, address + size));
  return { shape, data };
}

function flat(value: Value): Literal[] {
  if (value === 'token') return [];
  return 'shape' in value ? [value] : value.flatMap(flat);
}
