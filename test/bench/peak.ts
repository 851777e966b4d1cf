import { loadKernels } from '../../src/chip/kernels/load.ts';
import { wasm } from '../../src/chip/kernels/peak.wasm.ts';

interface PeakKernels {
  /** 12 chains of 4-wide fused multiply-adds that stay in registers: 96 operations a turn. */
  fusedPeak(turns: number, factor: number, term: number): number;
}

const operationsPerTurn = 96;
const turns = 50_000;

/** One sample, about 0.1 ms, of the 128-bit FMA peak of this thread. Needs relaxed SIMD. */
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
