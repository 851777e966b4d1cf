import { loadKernels } from '../../src/chip/kernels/load.ts';
import { wasm } from '../../src/chip/kernels/peak.wasm.ts';

interface PeakKernels {
  /**
   * Runs `turns` turns. A turn is 12 independent 4-wide fused multiply-adds in registers, which are
   * 96 operations.
   */
  fusedPeak(turns: number, factor: number, term: number): number;
}

const operationsPerTurn = 96;
const turns = 50_000;

/** One measurement of this thread's 128-bit FMA peak, about 0.1 ms long. It needs relaxed SIMD. */
export interface PeakSample {
  readonly operations: number;
  run(): void;
}

export function fusedPeakSample(memory: WebAssembly.Memory): PeakSample {
  const kernels = loadKernels<PeakKernels>(wasm, memory);
  return {
    operations: operationsPerTurn * turns,
    run: () => void kernels.fusedPeak(turns, 1e-9, 1.0000001),
  };
}
