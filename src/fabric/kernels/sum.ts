import { wasm } from './sum.wasm.ts';

/**
 * Sums and copies of f32 vectors in the emulator's memory. Arguments are byte addresses (multiples
 * of 4) and a count of elements; a target is the same range as a source, or apart from it.
 */
export interface SumKernels {
  /** `target[i] = a[i] + b[i]`. */
  add(target: number, a: number, b: number, count: number): void;
  /** `target[i] = source[i]`. */
  copy(target: number, source: number, count: number): void;
}

/** The kernels over `memory`, which is shared and has a maximum of at most 4 GiB. */
export function sumKernels(memory: WebAssembly.Memory): SumKernels {
  const module = new WebAssembly.Module(Buffer.from(wasm, 'base64'));
  const instance = new WebAssembly.Instance(module, { env: { memory } });
  return instance.exports as unknown as SumKernels;
}
