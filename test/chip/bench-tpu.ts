import { CloudTpuCores, coreBytes } from '../../src/chip/core.ts';
import { enableRelaxedSimd } from '../../src/chip/engine.ts';
import { fastMxu, mxuWorkspaceBytes } from '../../src/chip/mxu.ts';
import type { Ports } from '../../src/chip/ports.ts';
import { systolicMxu } from '../../src/chip/systolic.ts';
import { vectorUnit } from '../../src/chip/vector-unit.ts';
import { plainCode } from '../../src/hlo/plain-code.ts';
import { type Executable, phases } from '../../src/isa/executable.ts';
import { exchangeRows } from '../compiler/exchange-rows.ts';

/** One Cloud TPU under test. The test feeds its infeed. Its network has no other Cloud TPU. */
export interface BenchTpu {
  readonly cores: CloudTpuCores;
  /**
   * Runs a step. `feed[core][element]` has the bytes that the infeed delivers to a core for one of
   * its elements. The result `[element][core]` has the bytes that the core sends for one element of
   * the outfeed. An element that all cores share has an entry for core 0 only.
   */
  step(feed: readonly (readonly Uint8Array[])[]): Uint8Array[][];
  readonly beats: () => number;
  readonly phaseMs: Float64Array;
}

export interface BenchOptions {
  readonly fidelity?: 'fast' | 'systolic';
  readonly rowsPerCall?: number;
  /** Number of the first core among the replicas. Default: 0. */
  readonly firstReplica?: number;
}

export function benchTpu(executable: Executable, options: BenchOptions = {}): BenchTpu {
  const workspace = 128;
  const base = workspace + Math.ceil(mxuWorkspaceBytes / 64) * 64;
  const slot = base + coreBytes(executable);
  const feedBytes = 64 + 4 * 1024 * 1024;
  const pages = Math.ceil((slot + feedBytes) / 65536);
  const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
  const bytes = new Uint8Array(memory.buffer);
  const mxu =
    options.fidelity === 'systolic'
      ? systolicMxu(memory)
      : fastMxu(memory, { relaxed: enableRelaxedSimd() }, workspace);
  const rows = options.rowsPerCall ?? 1000;
  const units = { memory, mxu, vector: vectorUnit(memory), rowsPerCall: () => rows, plainCode };
  const cores = new CloudTpuCores(executable, base, units, options.firstReplica);
  const phaseMs = new Float64Array(phases.length);
  let beats = 0;
  return {
    cores,
    phaseMs,
    beats: () => beats,
    step(feed) {
      const sent: Uint8Array[][] = executable.outfeed.map(() => []);
      const ports: Ports = {
        infeed: {
          address(element, core) {
            bytes.set(feed[core]![element]!, slot);
            return slot;
          },
          release: () => undefined,
        },
        outfeed: {
          send(element, core, address, count) {
            sent[element]![core] = bytes.slice(address, address + count);
          },
        },
        ici: { start: () => undefined, progress: () => false, finish },
        beat: () => {
          beats++;
        },
      };
      cores.run(ports, () => 0, phaseMs);
      return sent;
    },
  };

  function finish(collective: number): void {
    const index = collective - executable.buckets.length;
    if (index < 0) {
      sumChips(collective);
      return;
    }
    const { pattern, rowBytes, source, target } = executable.exchanges[index]!;
    const row = (buffer: number, core: number, i: number): number => {
      const { offset, stride } = executable.buffers[buffer]!;
      return base + offset + core * stride + i * rowBytes;
    };
    exchangeRows(pattern, rowBytes, {
      replicas: executable.cores,
      sent: (core, i) => bytes.slice(row(source, core, i), row(source, core, i) + rowBytes),
      receive: (core, i, it) => bytes.set(it, row(target, core, i)),
    });
  }

  /**
   * The all-reduce of a single Cloud TPU. Replaces the vector of chip 0 by the sum over the chips:
   * ((chip 0 + chip 1) + chip 2) + chip 3.
   */
  function sumChips(bucket: number): void {
    const { buffer, elements } = executable.buckets[bucket]!;
    const { offset, stride } = executable.buffers[buffer]!;
    const vector = (chip: number): Float32Array =>
      new Float32Array(memory.buffer, base + offset + chip * stride, elements);
    const sum = vector(0);
    for (let chip = 1; chip < Math.ceil(executable.cores / 2); chip++) {
      vector(chip).forEach((value, i) => {
        sum[i] = sum[i]! + value;
      });
    }
  }
}

export function bytesOf(values: ArrayLike<number>): Uint8Array {
  return new Uint8Array(Float32Array.from(values).buffer);
}

export function floatsOf(bytes: Uint8Array): Float32Array {
  return new Float32Array(bytes.slice().buffer);
}
