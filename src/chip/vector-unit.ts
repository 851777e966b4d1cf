import { loadKernels } from './kernels/load.ts';
import { wasm } from './kernels/vector.wasm.ts';

/**
 * Small kernels over 32-bit words, see assembly/vector.ts. Addresses are in bytes, counts in words.
 */
export interface VectorUnit {
  copy(to: number, from: number, count: number): void;
  fill(to: number, count: number, value: number): void;
  /** Adds f32 arrays: to = a + b. `to` may be the same array as `a` or `b`. */
  add(to: number, a: number, b: number, count: number): void;
  digest(from: number, count: number, seed: bigint): bigint;
  philox(
    to: number,
    count: number,
    key0: number,
    key1: number,
    counter0: number,
    counter1: number,
    counter2: number,
    counter3: number,
  ): void;
}

export function vectorUnit(memory: WebAssembly.Memory): VectorUnit {
  return loadKernels<VectorUnit>(wasm, memory);
}
