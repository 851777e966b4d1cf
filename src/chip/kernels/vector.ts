import { loadKernels } from './load.ts';
import { wasm } from './vector.wasm.ts';

/** Small kernels over 32-bit words. Addresses are in bytes, multiples of 4. Counts are in words. */
export interface VectorKernels {
  copy(to: number, from: number, count: number): void;
  fill(to: number, count: number, value: number): void;
  /** Adds f32 arrays: to = a + b. `to` may be the same array as `a` or `b`. */
  add(to: number, a: number, b: number, count: number): void;
  /**
   * Computes the digest that numerics/digest.ts defines. The result is a signed 64-bit integer;
   * `BigInt.asUintN(64, …)` converts it to the unsigned value that numerics/digest.ts returns.
   */
  digest(at: number, count: number, seed: bigint): bigint;
  /**
   * Writes `count` random words to address `to`. The generator Philox 4×32-10 computes four random
   * words from the key and a 128-bit counter; for the next four, it advances the counter by one.
   * `counter0` is the lowest 32 bits of the counter for the first four random words.
   */
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

export function vectorKernels(memory: WebAssembly.Memory): VectorKernels {
  return loadKernels<VectorKernels>(wasm, memory);
}
