import { loadKernels } from './load.ts';
import { wasm } from './vector.wasm.ts';

/** Small loops over 32-bit words. Addresses in bytes, counts in words; any alignment by 4. */
export interface VectorKernels {
  copy(to: number, from: number, count: number): void;
  fill(to: number, count: number, value: number): void;
  /** f32: to = a + b; `to` may be `a` or `b`. */
  add(to: number, a: number, b: number, count: number): void;
  /**
   * The digest of numerics/digest.ts, as a signed 64-bit integer: `BigInt.asUintN(64, …)` gives
   * the twin's value.
   */
  digest(at: number, count: number, seed: bigint): bigint;
  /** Philox 4×32-10: `count` words, block i of the counter (counter0 lowest) plus i. */
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
