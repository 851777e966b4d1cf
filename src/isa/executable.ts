import type { ArrayShape } from '../numerics/shape.ts';

/**
 * A compiled program: the interface between the compiler and the emulated chip. The compiler writes
 * an executable for one replica (one core). A Cloud TPU runs the executable on its eight cores in
 * lockstep. A value that is equal on all cores is therefore stored and computed only once, and one
 * large matmul may compute the results of all eight cores.
 */
export interface Executable {
  readonly name: string;
  /** Number of cores that run in lockstep. A real Cloud TPU has 8 cores, two on each chip. */
  readonly cores: number;
  readonly buffers: readonly Buffer[];
  readonly instructions: readonly Instruction[];
  /** Tables of element offsets of matmul operands. A `Matmul` refers to a table by its index. */
  readonly tables: readonly Int32Array[];
  /**
   * WASM module with the generated fused loops `f0`, `f1`, …. It imports the shared `env.memory`.
   */
  readonly code: Uint8Array;
  /**
   * Constants of the program. Loading the program writes `data` into `buffer`, before the first
   * step.
   */
  readonly constants: readonly { readonly buffer: BufferId; readonly data: Uint8Array }[];
  /**
   * One entry for each parameter, by index: the buffer of the parameter. All these buffers are
   * `shared` (one copy).
   */
  readonly parameters: readonly BufferId[];
  /**
   * One entry for each parameter, by index: the buffer that holds the parameter's value after a
   * step. For a parameter that the step updates, this is a second buffer, so that an aborted step
   * can run again with the old value. For any other parameter, this is the parameter's own buffer.
   * The second buffer exists only in the emulator: in HBM it has the address of the first, because
   * the hardware updates parameters in place. `next` is undefined if the emulator also updates
   * parameters in place.
   */
  readonly next?: readonly BufferId[];
  /**
   * One entry for each element of the root tuple: the buffer that holds the element. If the element
   * is aliased to a parameter, this is the `next` buffer of the parameter.
   */
  readonly results: readonly BufferId[];
  /** Shapes of the arrays that the host feeds to each core in a step, in order. */
  readonly infeed: readonly ArrayShape[];
  /**
   * Arrays that each core sends to the host in a step, in order. A `shared` array is equal on all
   * cores, so only one core sends it.
   */
  readonly outfeed: readonly { readonly shape: ArrayShape; readonly copies: Copies }[];
  /**
   * Buckets of the all-reduces. A bucket is a contiguous f32 vector of gradients on each chip; one
   * all-reduce sums the vectors of all chips.
   */
  readonly buckets: readonly Bucket[];
  readonly hbm: HbmReport;
  /**
   * Bytes of one Cloud TPU's arena, the part of the emulator's memory that holds all buffers and
   * tables of the executable, including constants.
   */
  readonly arenaBytes: number;
}

/**
 * Copies of a buffer that the emulator keeps for one Cloud TPU. `shared`: one copy, because all
 * cores hold the same value. `core`: one copy for each core. `chip`: one copy for each chip, which
 * holds the sum of the values of the chip's two cores. Only buffers of gradients for the all-reduce
 * are `chip`.
 */
export type Copies = 'shared' | 'chip' | 'core';

/** Index into `Executable.buffers`. */
export type BufferId = number;

/** Memory for one array. `copies` says how many copies of the array the emulator keeps. */
export interface Buffer {
  /** Path of the HLO instruction whose value the buffer holds, such as `conv2/kernel`. */
  readonly name: string;
  readonly kind: 'program' | 'parameter' | 'constant' | 'infeed' | 'gradient' | 'temporary';
  readonly shape: ArrayShape;
  readonly copies: Copies;
  /**
   * Byte offset of copy 0 in the arena (the executable's part of the emulator's memory), a multiple
   * of 64. Copy i is at `offset + i * stride`.
   */
  readonly offset: number;
  /**
   * Bytes from the start of one copy to the start of the next copy; 0 for `shared`, which has one
   * copy. The copies of a `core` buffer follow one another without gaps.
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

/**
 * Copies element `element` of the infeed into the buffer `target`, which has a copy for each core.
 */
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
 * A matmul, or a batch of matmuls, on the MXU. The tables in `matmul` have the element offsets of
 * both operands:
 *
 *     target[b,m,n] = Σ_k lhs[lhsBatch[b] + rows[m] + lhsDepth[k]]
 *                       · rhs[rhsBatch[b] + rhsDepth[k] + columns[n]]
 *
 * Operands and sums are f32, in the order of sums of docs/ARCHITECTURE.md (tiles of 128 along k).
 * If `target` has one copy for each chip, both operands have one copy for each core, and a copy of
 * `target` is the result of the chip's first core plus the result of its second core.
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
   * The fields from `lhsBatch` to `columns` are tables of element offsets. Each field is an index
   * into `Executable.tables`.
   */
  readonly lhsBatch: number;
  readonly rhsBatch: number;
  readonly rows: number;
  readonly lhsDepth: number;
  readonly rhsDepth: number;
  readonly columns: number;
  /**
   * Precision of the multiplicands, which are f32 values: `bf16` rounds them to bf16 first, `f32`
   * multiplies them as they are.
   */
  readonly precision: 'bf16' | 'f32';
}

/**
 * A fused loop on the vector unit. The field `function` is the index of a generated function `f0`,
 * `f1`, …, which is called once for each copy of the targets. Its arguments are the byte addresses
 * of all sources, then of all targets. All targets have the same `copies`. A `shared` source has
 * the same address in every call.
 */
export interface FusedLoopInstruction extends Step {
  readonly unit: 'vpu';
  readonly function: number;
  readonly sources: readonly BufferId[];
  readonly targets: readonly BufferId[];
  /**
   * Number of f32 operations that the loop executes on one core. The cost model uses this number.
   */
  readonly flops: number;
}

/**
 * Copies `bytes` bytes from each copy of `source` to the same copy of `target`. If `source` is
 * `shared`, its single copy is copied to all copies of `target`.
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
 * Adds the f32 values of a chip's two cores: copy c of `target` (one copy for each chip) becomes
 * the sum of copies 2c and 2c+1 of `source` (one copy for each core). If there is only one core,
 * `target` becomes a copy of the core's values.
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

/**
 * Starts the all-reduce of a bucket. The next instructions run while the all-reduce is in progress.
 */
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
 * A buffer that holds several gradients (its members) one after another. One all-reduce sums all
 * members. The buffer has one copy for each chip. Before the all-reduce, copy c is the vector of
 * chip c. After the all-reduce, copy 0 is the sum over all chips of the slice, and the contents of
 * the other copies are meaningless. Each member has two buffers inside the bucket, aligned to 4
 * bytes. The gradient is written to a `chip` buffer, which has the stride of the bucket. The sum is
 * read from a `shared` buffer, which lies in copy 0.
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

/**
 * Use of one core's HBM at the moment of the program's highest use. Sizes are in bytes and include
 * padding to tiles of 8×128.
 */
export interface HbmReport {
  readonly limit: number;
  readonly peak: number;
  readonly byKind: Readonly<Record<Buffer['kind'], number>>;
  /** The largest buffers that are in use at the moment of the highest use, largest first. */
  readonly largest: readonly {
    readonly name: string;
    readonly shape: string;
    readonly bytes: number;
  }[];
}
