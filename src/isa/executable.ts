import type { ArrayShape } from '../numerics/shape.ts';

/**
 * The contract between compiler and chip. The compiler writes an executable for one replica (one
 * core); a Cloud TPU runs it on its eight cores in lockstep, so that what is the same on every
 * core is held and computed once, and one large product may serve all eight.
 */
export interface Executable {
  readonly name: string;
  /** Cores of a Cloud TPU that run in lockstep: 8 on the hardware; 2 cores make a chip. */
  readonly cores: number;
  readonly buffers: readonly Buffer[];
  readonly instructions: readonly Instruction[];
  /** Element offsets that products use; `Matmul` refers to them by index. */
  readonly tables: readonly Int32Array[];
  /** A WASM module with the generated loops `f0`, `f1`, …; imports `env.memory` (shared). */
  readonly code: Uint8Array;
  /** Values that are in place before the first step. */
  readonly constants: readonly { readonly buffer: BufferId; readonly data: Uint8Array }[];
  /** Buffer of each parameter, by parameter number. Always `shared`. */
  readonly parameters: readonly BufferId[];
  /**
   * By parameter number, the buffer that holds its value after a step: another one where the
   * emulator keeps the value from before, so that an aborted step can be run again; its own where
   * nothing takes its place. In HBM both are one, as the update is in place. Absent when updates
   * are in place in the emulator too.
   */
  readonly next?: readonly BufferId[];
  /** Buffer of each element of the root tuple; an aliased one is its parameter's `next` buffer. */
  readonly results: readonly BufferId[];
  /** What the host feeds each core at the start of a step, in order. */
  readonly infeed: readonly ArrayShape[];
  /** What each core sends the host at the end of a step. `shared` ones are sent once. */
  readonly outfeed: readonly { readonly shape: ArrayShape; readonly copies: Copies }[];
  /** Gradients that travel together: a contiguous f32 vector per chip. */
  readonly buckets: readonly Bucket[];
  readonly hbm: HbmReport;
  /** Bytes of one Cloud TPU in the emulator's memory: every buffer, tables and constants. */
  readonly arenaBytes: number;
}

/**
 * How many copies the emulator keeps of a buffer. `shared`: one, because every core of the Cloud
 * TPU holds the same value. `core`: one a core. `chip`: one a chip, the sum of its two cores'
 * values, core 0 + core 1; only gradients on their way to the all-reduce.
 */
export type Copies = 'shared' | 'chip' | 'core';

/** Index into `Executable.buffers`. */
export type BufferId = number;

/** A range of memory with the shape of the array in it. */
export interface Buffer {
  /** Path of the instruction that it belongs to, such as `conv2/kernel`. */
  readonly name: string;
  readonly kind: 'program' | 'parameter' | 'constant' | 'infeed' | 'gradient' | 'temporary';
  readonly shape: ArrayShape;
  readonly copies: Copies;
  /** Byte offset of copy 0 in the Cloud TPU's arena; copy i lies `i * stride` further. 64-aligned. */
  readonly offset: number;
  /** Bytes between copies; 0 when shared. Dense: copies of a `core` buffer follow one another. */
  readonly stride: number;
  /** Bytes of one dense copy. */
  readonly bytes: number;
  /** The same buffer in a core's HBM, where it is padded to tiles of 8×128. */
  readonly hbmOffset: number;
  readonly hbmBytes: number;
}

/** What part of a step an instruction belongs to, for the table of step timings. */
export const phases = ['infeed', 'compute', 'all-reduce', 'update', 'outfeed'] as const;
/** A part of a step, for its times. */
export type Phase = (typeof phases)[number];

interface Step {
  readonly name: string;
  readonly phase: Phase;
}

/** What a core does at a time, by the unit that does it. */
export type Instruction =
  | InfeedInstruction
  | OutfeedInstruction
  | MatmulInstruction
  | FusedLoopInstruction
  | CopyInstruction
  | ChipSumInstruction
  | RngInstruction
  | AllReduceStart
  | AllReduceDone;

/** Takes element `element` of the infeed into `target` (`core`). */
export interface InfeedInstruction extends Step {
  readonly unit: 'infeed';
  readonly element: number;
  readonly target: BufferId;
}
/** Sends an array to the host. */
export interface OutfeedInstruction extends Step {
  readonly unit: 'outfeed';
  readonly element: number;
  readonly source: BufferId;
}

/**
 * `target[b,m,n] = Σ_k lhs[batchL[b] + rows[m] + lhsDepth[k]] · rhs[batchR[b] + rhsDepth[k] + columns[n]]`
 * in f32, offsets in elements, the order of sums as documented (tiles of 128 along k).
 * Operands are f32. When `target` is `chip` the operands are `core`, and each copy is the product
 * of the chip's first core plus that of its second.
 */
export interface MatmulInstruction extends Step {
  readonly unit: 'mxu';
  readonly matmul: Matmul;
  readonly lhs: BufferId;
  readonly rhs: BufferId;
  readonly target: BufferId;
}
/** A matrix product, or a batch of them, with the offsets of all its elements. */
export interface Matmul {
  readonly batch: number;
  readonly m: number;
  readonly n: number;
  readonly k: number;
  /** Indices into `Executable.tables`. */
  readonly lhsBatch: number;
  readonly rhsBatch: number;
  readonly rows: number;
  readonly lhsDepth: number;
  readonly rhsDepth: number;
  readonly columns: number;
  /** Multiplicands rounded to bf16, or f32 as they are. */
  readonly precision: 'bf16' | 'f32';
}

/**
 * A generated loop on the vector unit: calls `f<function>(address of each source…, of each
 * target…)` once for each copy of the targets, which all have the same `copies`. A `shared`
 * source has one address for all.
 */
export interface FusedLoopInstruction extends Step {
  readonly unit: 'vpu';
  readonly function: number;
  readonly sources: readonly BufferId[];
  readonly targets: readonly BufferId[];
  /** f32 operations for one core, for the cost model. */
  readonly flops: number;
}

/** Copies bytes, every copy of `source` to that of `target`; a shared source to all. */
export interface CopyInstruction extends Step {
  readonly unit: 'copy';
  readonly source: BufferId;
  readonly sourceOffset: number;
  readonly target: BufferId;
  readonly targetOffset: number;
  readonly bytes: number;
}

/** `target` (chip) copy c = `source` (core) copy 2c + copy 2c+1, f32; with one core, its copy. */
export interface ChipSumInstruction extends Step {
  readonly unit: 'chip-sum';
  readonly source: BufferId;
  readonly target: BufferId;
}

/** Philox bits: `state` u32[4] → `bits`, and the advanced `newState`, which may be `state`'s memory. */
export interface RngInstruction extends Step {
  readonly unit: 'rng';
  readonly state: BufferId;
  readonly newState: BufferId;
  readonly bits: BufferId;
}

/** Hands the bucket to the fabric; other instructions run while it travels. */
export interface AllReduceStart extends Step {
  readonly unit: 'all-reduce-start';
  readonly bucket: number;
}
/** Waits until the sum over all chips lies in copy 0 of the bucket. */
export interface AllReduceDone extends Step {
  readonly unit: 'all-reduce-done';
  readonly bucket: number;
}

/**
 * A `chip` buffer that holds its members one after another. Before: copy c is chip c's vector.
 * After: copy 0 is the sum over all chips of the slice; the other copies are scratch.
 * Members have buffers of their own that lie inside, aligned to 4 bytes: `chip` ones that take the
 * parts, their stride the bucket's, and `shared` ones inside copy 0, from which the sum is read.
 */
export interface Bucket {
  readonly buffer: BufferId;
  readonly elements: number;
  readonly members: readonly {
    readonly name: string;
    readonly offset: number;
    readonly elements: number;
  }[];
}

/** What one core's HBM holds at its fullest, in bytes padded to tiles. */
export interface HbmReport {
  readonly limit: number;
  readonly peak: number;
  readonly byKind: Readonly<Record<Buffer['kind'], number>>;
  /** The largest buffers alive at the peak, largest first. */
  readonly largest: readonly {
    readonly name: string;
    readonly shape: string;
    readonly bytes: number;
  }[];
}
