import type { ArrayShape } from '../numerics/shape.ts';

/**
 * The contract between compiler and chip. The compiler writes an executable for one replica (one
 * core). A Cloud TPU runs it on its eight cores in lockstep. A value that is the same on every core
 * is therefore stored and computed once, and one large matmul may compute the results of all eight.
 */
export interface Executable {
  readonly name: string;
  /** Number of cores that run in lockstep. A Cloud TPU of the hardware has 8, two on each chip. */
  readonly cores: number;
  readonly buffers: readonly Buffer[];
  readonly instructions: readonly Instruction[];
  /** Tables of element offsets of matmul operands. `Matmul` refers to them by index. */
  readonly tables: readonly Int32Array[];
  /**
   * WASM module with the generated fused loops `f0`, `f1`, …. It imports the shared `env.memory`.
   */
  readonly code: Uint8Array;
  /** Values that loading writes into their buffers, before the first step. */
  readonly constants: readonly { readonly buffer: BufferId; readonly data: Uint8Array }[];
  /** Buffer of each parameter, indexed by parameter number. All are `shared`. */
  readonly parameters: readonly BufferId[];
  /**
   * Buffer of each parameter's value after a step, indexed by parameter number. A parameter that
   * the step updates has a second buffer here: the emulator keeps the old value, so that an aborted
   * step can run again. A parameter that the step does not update has its own buffer. In HBM both
   * buffers have one address, because the hardware updates in place. Undefined if the emulator
   * updates in place too.
   */
  readonly next?: readonly BufferId[];
  /**
   * Buffer of each element of the root tuple. An aliased element has its parameter's `next` buffer.
   */
  readonly results: readonly BufferId[];
  /** Shapes of the arrays that the host feeds to each core in a step, in order. */
  readonly infeed: readonly ArrayShape[];
  /** Arrays that each core sends to the host in a step, in order. A `shared` array is sent once. */
  readonly outfeed: readonly { readonly shape: ArrayShape; readonly copies: Copies }[];
  /** Buckets of the all-reduces. A bucket is a contiguous f32 vector of gradients on each chip. */
  readonly buckets: readonly Bucket[];
  readonly hbm: HbmReport;
  /** Bytes of one Cloud TPU's arena in the emulator's memory: all buffers, tables and constants. */
  readonly arenaBytes: number;
}

/**
 * Copies of a buffer that the emulator keeps for one Cloud TPU. `shared`: one copy, because all
 * cores hold the same value. `core`: one copy for each core. `chip`: one copy for each chip, which
 * is the sum of its two cores' values (core 0 + core 1). Only gradients for the all-reduce are
 * `chip`.
 */
export type Copies = 'shared' | 'chip' | 'core';

/** Index into `Executable.buffers`. */
export type BufferId = number;

/** A range of memory that holds an array, once for each copy. */
export interface Buffer {
  /** Path of the HLO instruction whose value the buffer holds, such as `conv2/kernel`. */
  readonly name: string;
  readonly kind: 'program' | 'parameter' | 'constant' | 'infeed' | 'gradient' | 'temporary';
  readonly shape: ArrayShape;
  readonly copies: Copies;
  /** Byte offset of copy 0 in the arena, a multiple of 64. Copy i is at `offset + i * stride`. */
  readonly offset: number;
  /**
   * Bytes from one copy to the next; 0 for `shared`. The copies of a `core` buffer have no gaps.
   */
  readonly stride: number;
  /** Bytes of one copy, without padding. */
  readonly bytes: number;
  /** Byte offset of the buffer in a core's HBM, where arrays are padded to tiles of 8×128. */
  readonly hbmOffset: number;
  readonly hbmBytes: number;
}

/** Parts of a step. The table of step timings shows the time of each part. */
export const phases = ['infeed', 'compute', 'all-reduce', 'update', 'outfeed'] as const;
/** One of {@link phases}. */
export type Phase = (typeof phases)[number];

interface Step {
  readonly name: string;
  readonly phase: Phase;
}

/** One instruction of a core. The field `unit` names the unit that executes it. */
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

/** Copies element `element` of the infeed into `target`, a `core` buffer. */
export interface InfeedInstruction extends Step {
  readonly unit: 'infeed';
  readonly element: number;
  readonly target: BufferId;
}
/** Sends the array in `source` to the host as element `element` of the outfeed. */
export interface OutfeedInstruction extends Step {
  readonly unit: 'outfeed';
  readonly element: number;
  readonly source: BufferId;
}

/**
 * A matmul on the MXU. With tables of element offsets for both operands:
 *
 *     target[b,m,n] = Σ_k lhs[lhsBatch[b] + rows[m] + lhsDepth[k]]
 *                       · rhs[rhsBatch[b] + rhsDepth[k] + columns[n]]
 *
 * Operands and sums are f32, in the order of sums of docs/ARCHITECTURE.md (tiles of 128 along k).
 * If `target` is `chip`, the operands are `core`, and each copy of `target` is the result of the
 * chip's first core plus the result of its second core.
 */
export interface MatmulInstruction extends Step {
  readonly unit: 'mxu';
  readonly matmul: Matmul;
  readonly lhs: BufferId;
  readonly rhs: BufferId;
  readonly target: BufferId;
}
/** Sizes and offset tables of a matmul, or of a batch of matmuls. */
export interface Matmul {
  readonly batch: number;
  readonly m: number;
  readonly n: number;
  readonly k: number;
  /**
   * Table of element offsets, as an index into `Executable.tables`. So are the next five fields.
   */
  readonly lhsBatch: number;
  readonly rhsBatch: number;
  readonly rows: number;
  readonly lhsDepth: number;
  readonly rhsDepth: number;
  readonly columns: number;
  /** Precision of the multiplicands: f32 values are rounded to bf16 first, or multiplied as f32. */
  readonly precision: 'bf16' | 'f32';
}

/**
 * A fused loop on the vector unit. It calls the generated function `f<function>` once for each copy
 * of the targets, with the byte addresses of all sources and then of all targets. All targets have
 * the same `copies`. A `shared` source has the same address in every call.
 */
export interface FusedLoopInstruction extends Step {
  readonly unit: 'vpu';
  readonly function: number;
  readonly sources: readonly BufferId[];
  readonly targets: readonly BufferId[];
  /** f32 operations of one core, for the cost model. */
  readonly flops: number;
}

/**
 * Copies bytes from each copy of `source` to the same copy of `target`, or from a `shared` source
 * to all.
 */
export interface CopyInstruction extends Step {
  readonly unit: 'copy';
  readonly source: BufferId;
  readonly sourceOffset: number;
  readonly target: BufferId;
  readonly targetOffset: number;
  readonly bytes: number;
}

/**
 * Adds the f32 values of a chip's two cores: copy c of `target` (`chip`) = copy 2c + copy 2c+1 of
 * `source` (`core`). With a single core it copies that core's values.
 */
export interface ChipSumInstruction extends Step {
  readonly unit: 'chip-sum';
  readonly source: BufferId;
  readonly target: BufferId;
}

/**
 * Fills `bits` with random u32 of Philox 4×32-10, generated from `state` (u32[4]), and writes the
 * advanced state to `newState`. `newState` and `state` may be the same memory.
 */
export interface RngInstruction extends Step {
  readonly unit: 'rng';
  readonly state: BufferId;
  readonly newState: BufferId;
  readonly bits: BufferId;
}

/** Starts the all-reduce of a bucket. The next instructions run while the sum is in flight. */
export interface AllReduceStart extends Step {
  readonly unit: 'all-reduce-start';
  readonly bucket: number;
}
/** Waits until copy 0 of the bucket holds the sum over all chips of the slice. */
export interface AllReduceDone extends Step {
  readonly unit: 'all-reduce-done';
  readonly bucket: number;
}

/**
 * A `chip` buffer with several gradients, its members, one after another. Before the all-reduce,
 * copy c is the vector of chip c. After it, copy 0 is the sum over all chips of the slice, and the
 * other copies are scratch. Each member has two buffers inside the bucket, aligned to 4 bytes: a
 * `chip` buffer with the bucket's stride, into which the gradient is written, and a `shared` buffer
 * inside copy 0, from which the sum is read.
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

/** Contents of one core's HBM at the peak of its use, in bytes padded to tiles. */
export interface HbmReport {
  readonly limit: number;
  readonly peak: number;
  readonly byKind: Readonly<Record<Buffer['kind'], number>>;
  /** The largest buffers that are live at the peak, largest first. */
  readonly largest: readonly {
    readonly name: string;
    readonly shape: string;
    readonly bytes: number;
  }[];
}
