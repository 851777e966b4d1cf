import type { ArrayShape } from '../numerics/shape.ts';

/**
 * A compiled program: the interface between the compiler and the emulated chip. The compiler writes
 * an executable for one replica (one core). A Cloud TPU runs the executable on its eight cores in
 * lockstep, so the emulator can do the work of several cores at once. A value that is equal on all
 * cores is computed and stored only once. One large matmul may compute the results of all cores.
 */
export interface Executable {
  readonly name: string;
  /** Number of cores that run in lockstep. A real Cloud TPU has 8 cores, two on each chip. */
  readonly cores: number;
  readonly buffers: readonly Buffer[];
  readonly instructions: readonly Instruction[];
  /**
   * Offset tables of the matmuls. Each table lists offsets into an operand of a matmul, in
   * elements. A `Matmul` refers to a table by the index of the table in this list.
   */
  readonly tables: readonly Int32Array[];
  /**
   * WASM module with the generated fused loops `f0`, `f1`, …. It imports the shared `env.memory`.
   */
  readonly code: Uint8Array;
  /**
   * Constants of the program. Loading the program writes `data` into `buffer`, before the first
   * step.
   */
  readonly constants: readonly { readonly buffer: BufferId; readonly data: ConstantData }[];
  /**
   * One entry for each parameter, by index: the buffer of the parameter. All these buffers are
   * `shared` (one copy).
   */
  readonly parameters: readonly BufferId[];
  /**
   * One entry for each parameter, by index: the buffer that holds the parameter's value after a
   * step.
   *
   * - If the step does not update the parameter, this is the parameter's own buffer.
   * - If the step updates the parameter, this is a second buffer. The parameter's own buffer keeps
   *   the old value, so that an aborted step can run again.
   *
   * Real hardware updates parameters in place, so both buffers have the same address in HBM. If the
   * emulator updates parameters in place too, `next` is undefined.
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
  /** Exchanges of rows between replicas. */
  readonly exchanges: readonly Exchange[];
  readonly hbm: HbmReport;
  /**
   * Bytes of one Cloud TPU's arena, the part of the emulator's memory that holds all buffers and
   * tables of the executable, including constants.
   */
  readonly arenaBytes: number;
}

/**
 * Copies of a buffer that the emulator keeps for one Cloud TPU. `shared`: one copy, because all
 * cores hold the same value. `core`: one copy for each core. `chip`: one copy for each chip; this
 * copy is the sum over the two cores of the chip. Only gradients that wait for the all-reduce are
 * in `chip` buffers.
 */
export type Copies = 'shared' | 'chip' | 'core';

/** Index into `Executable.buffers`. */
export type BufferId = number;

/**
 * Bytes of a constant, the same in all copies of its buffer. `replica-id` stands for the number of the
 * replica, as u32; the buffer then has a copy for each core.
 */
export type ConstantData = Uint8Array | 'replica-id';

/** Memory for one array. `copies` says how many copies of the array the emulator keeps. */
export interface Buffer {
  /** Path of the HLO instruction whose value the buffer holds, such as `conv2/kernel`. */
  readonly name: string;
  readonly kind: 'program' | 'parameter' | 'constant' | 'infeed' | 'gradient' | 'temporary';
  readonly shape: ArrayShape;
  readonly copies: Copies;
  /**
   * Byte offset of copy 0 in the arena (the executable's part of the emulator's memory). The offset
   * is a multiple of 64, or of 4 if the buffer is a range of a bucket. Copy i is at `offset + i *
   * stride`.
   */
  readonly offset: number;
  /**
   * Bytes from the start of one copy to the start of the next copy. A `shared` buffer has only one
   * copy, so its stride is 0. The copies of a `core` buffer follow one another without gaps.
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
  | PlainInstruction
  | AllReduceStart
  | AllReduceDone
  | ExchangeInstruction;

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
 * A matmul, or a batch of matmuls, on the MXU. Operands and sums are f32. In the formula, b is the
 * index of a matmul in the batch, and m and n are the row and the column of an element of its
 * result. The element is a sum of products; k is the index of a product:
 *
 *     target[b,m,n] = Σ_k lhs[lhsBatch[b] + rows[m] + lhsDepth[k]]
 *                       · rhs[rhsBatch[b] + rhsDepth[k] + columns[n]]
 *
 * `lhsBatch`, `rows` and the other tables are in `matmul`. They hold offsets into the operands, in
 * elements. The products of a sum are added in the order of k, in tiles of 128 products. See "Order
 * of sums" in docs/ARCHITECTURE.md.
 *
 * If `target` has one copy for each chip, both operands have one copy for each core. A copy of
 * `target` is then the result of the chip's first core plus the result of its second core.
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
 * A fused loop on the vector unit: a function that the compiler has generated in `Executable.code`.
 * `function` is the index of the function: 0 for `f0`, 1 for `f1`, and so on. All targets have the
 * same `copies`. The function is called once for each copy of the targets. In the call for copy c,
 * the arguments are the byte addresses of copy c of all sources, then of copy c of all targets. A
 * `shared` source has only one copy, so its address is the same in every call.
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
 * Computes random u32 numbers from `state` (u32[4]) with the generator Philox 4×32-10, and fills
 * `bits` with them. Then writes to `newState` the state from which the next random numbers follow.
 * `newState` and `state` may be the same memory.
 */
export interface RngInstruction extends Step {
  readonly unit: 'rng';
  readonly state: BufferId;
  readonly newState: BufferId;
  readonly bits: BufferId;
}

/**
 * An instruction for which no unit of the core has code. Plain code computes it by its definition,
 * which is slow. `module` is a module in HLO text whose entry has this one instruction. The entry has
 * one parameter for each source and returns one array for each target. `reason` says why no unit
 * computes the instruction.
 *
 * All targets have the same `copies`. The module runs once for each copy of the targets, as a fused
 * loop does.
 */
export interface PlainInstruction extends Step {
  readonly unit: 'plain';
  readonly opcode: string;
  readonly reason: string;
  readonly module: string;
  /** `shape` is the shape of the parameter. The buffer may have another shape of the same size. */
  readonly sources: readonly { readonly buffer: BufferId; readonly shape: ArrayShape }[];
  readonly targets: readonly BufferId[];
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

/** Makes the exchange with the index `exchange` and waits until it is done. */
export interface ExchangeInstruction extends Step {
  readonly unit: 'exchange';
  readonly exchange: number;
}

/**
 * An exchange of rows between replicas. `source` has the rows that a replica sends, one after
 * another, and `target` the rows that it receives. If a replica is the target of no row, the target
 * becomes zero.
 */
export interface Exchange {
  readonly pattern: ExchangePattern;
  readonly source: BufferId;
  readonly target: BufferId;
  /** Size of a row in bytes, a multiple of 4. */
  readonly rowBytes: number;
}

/**
 * Which replicas send rows to which:
 *
 * - `all-gather`: each member of a group sends its row to all members of the group. A member ends
 *   with one row from each, in the order of the group.
 * - `all-to-all`: each member has a row for each member of its group. A member ends with one row from
 *   each, in the order of the group.
 * - `collective-broadcast`: the first member of a group sends its row to all members.
 * - `collective-permute`: the source of each pair sends its row to the target of the pair.
 *
 * An empty list of groups stands for one group of all replicas, in order.
 */
export type ExchangePattern =
  | {
      readonly kind: 'all-gather' | 'all-to-all' | 'collective-broadcast';
      readonly groups: readonly (readonly number[])[];
    }
  | {
      readonly kind: 'collective-permute';
      readonly pairs: readonly (readonly [source: number, target: number])[];
    };

/**
 * A bucket: several gradients (its members) one after another in one buffer. One all-reduce sums
 * all members. `buffer` has one copy for each chip. Before the all-reduce, copy c holds the
 * gradients of chip c. After the all-reduce, copy 0 holds the sums over all chips of the slice, and
 * the other copies hold nothing useful.
 *
 * Each member has two more buffers, which are ranges of `buffer`. The program writes the gradient
 * of the member to the first, which is `chip`: a range of every copy. The program reads the sum of
 * the member from the second, which is `shared`: a range of copy 0.
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
 * Use of one core's HBM at the peak of a program: the moment when its buffers need the most HBM.
 * Sizes are in bytes and include padding to tiles of 8×128.
 */
export interface HbmReport {
  readonly limit: number;
  readonly peak: number;
  readonly byKind: Readonly<Record<Buffer['kind'], number>>;
  /** The largest buffers that are in use at the peak, largest first. */
  readonly largest: readonly {
    readonly name: string;
    readonly shape: string;
    readonly bytes: number;
  }[];
}
