import { loadKernels } from './kernels/load.ts';
import { wasm } from './kernels/vector.wasm.ts';

/** Small loops over 32-bit words; addresses in bytes, counts in words. See assembly/vector.ts. */
export interface VectorUnit {
  copy(to: number, from: number, count: number): void;
  fill(to: number, count: number, value: number): void;
  /** to = a + b, f32; `to` may be `a` or `b`. */
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
