import { wasm } from './sum.wasm.ts';

/**
 * Kernels that sum and copy f32 vectors in the emulator's memory. `target`, `a`, `b` and `source`
 * are byte addresses and multiples of 4. `count` is the number of elements of a vector. The target
 * range must be the same as a source range, or must not overlap with any source range.
 */
export interface SumKernels {
  /** `target[i] = a[i] + b[i]`. */
  add(target: number, a: number, b: number, count: number): void;
  /** `target[i] = source[i]`. */
  copy(target: number, source: number, count: number): void;
}

/** The compiled kernels; undefined until they are first used. */
let compiled: WebAssembly.Module | undefined;

/** Instantiates the kernels over `memory`, a shared memory with a maximum of at most 4 GiB. */
export function sumKernels(memory: WebAssembly.Memory): SumKernels {
  compiled ??= new WebAssembly.Module(Buffer.from(wasm, 'base64'));
  const instance = new WebAssembly.Instance(compiled, { env: { memory } });
  return instance.exports as unknown as SumKernels;
}
