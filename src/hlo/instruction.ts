import type { ArrayShape, Shape } from '../numerics/shape.ts';
import type { Binary } from './ops/binary.ts';
import type { Collective } from './ops/collective.ts';
import type { Contraction } from './ops/contraction.ts';
import type { Control } from './ops/control.ts';
import type { Elementwise } from './ops/elementwise.ts';
import type { Gathering } from './ops/gather.ts';
import type { Host } from './ops/host.ts';
import type { Identity } from './ops/identity.ts';
import type { Indexed } from './ops/indexed.ts';
import type { Leaf, Parameter } from './ops/leaf.ts';
import type { LinearAlgebra } from './ops/linear-algebra.ts';
import type { BatchNorm } from './ops/normalization.ts';
import type { Ordering } from './ops/ordering.ts';
import type { Random } from './ops/random.ts';
import type { Rearranging } from './ops/rearranging.ts';
import type { Reduction } from './ops/reduction.ts';
import type { Structure } from './ops/structure.ts';
import type { Unary } from './ops/unary.ts';

export { type Binary, type BinaryOpcode, binaryOpcodes } from './ops/binary.ts';
export type {
  AllGather,
  AllReduce,
  AllToAll,
  CollectiveBroadcast,
  CollectivePermute,
  ReduceScatter,
} from './ops/collective.ts';
export type {
  Convolution,
  Dot,
  DotDimensions,
  Precision,
} from './ops/contraction.ts';
export type { Call, Conditional, OptBarrier, ScalarMap, While } from './ops/control.ts';
export type { Clamp, Compare, Convert, ReducePrecision, Select } from './ops/elementwise.ts';
export type { Gather, Placement, Scatter } from './ops/gather.ts';
export type { AfterAll, Infeed, Outfeed } from './ops/host.ts';
export type { PartitionId, ReplicaId } from './ops/identity.ts';
export type { DynamicSlice, DynamicUpdateSlice } from './ops/indexed.ts';
export type { Constant, Parameter } from './ops/leaf.ts';
export type { Cholesky, TriangularSolve } from './ops/linear-algebra.ts';
export type {
  BatchNorm,
  BatchNormGrad,
  BatchNormInference,
  BatchNormTraining,
} from './ops/normalization.ts';
export type { Sort, Topk } from './ops/ordering.ts';
export type { RngBitGenerator, StochasticConvert } from './ops/random.ts';
export type {
  Broadcast,
  Concatenate,
  Iota,
  Pad,
  Reshape,
  Reverse,
  Slice,
  Transpose,
} from './ops/rearranging.ts';
export type { Reduce, ReduceWindow, SelectAndScatter } from './ops/reduction.ts';
export type { Fusion, GetTupleElement, Tuple } from './ops/structure.ts';
export { type Unary, type UnaryOpcode, unaryOpcodes } from './ops/unary.ts';
export type { ConvolutionDimensions, WindowDimension } from './window.ts';

/**
 * One operation of a computation. Opcodes and semantics are XLA's [openxla.org, Operation
 * Semantics]. Instructions are immutable and form a directed acyclic graph through `operands`. If
 * one instruction object is an operand of several instructions, it is computed only once.
 */
export type HloInstruction =
  | Leaf
  | Unary
  | Binary
  | Elementwise
  | Rearranging
  | Contraction
  | Reduction
  | Random
  | Collective
  | Host
  | Structure
  | Ordering
  | Indexed
  | Gathering
  | Control
  | BatchNorm
  | LinearAlgebra
  | Identity;

/** Name of an operation, in XLA's spelling. */
export type Opcode = HloInstruction['opcode'];

/** Union of the instruction types whose `opcode` field admits `O`. */
export type InstructionOf<O extends Opcode> = Extract<OfOpcode<HloInstruction, O>, HloInstruction>;

/** Those members of the union `T` whose `opcode` field admits `O`. */
export type OfOpcode<T, O> = T extends { readonly opcode: infer P }
  ? O extends P
    ? T
    : never
  : never;

/** Fields of every instruction. */
export interface InstructionBase<O extends string, S extends Shape = ArrayShape> {
  readonly opcode: O;
  readonly shape: S;
  readonly operands: readonly HloInstruction[];
  /**
   * Path of the part of the model to which the instruction belongs, such as `conv2/kernel`. The
   * compiler names buffers after this path.
   */
  readonly name?: string | undefined;
}

/**
 * An instruction before its shape is inferred. Some opcodes need `shape`, because their operands do
 * not determine it: parameter, iota, convert, broadcast, reshape, rng-bit-generator, infeed.
 */
export type Draft<T extends HloInstruction = HloInstruction> = T extends HloInstruction
  ? Omit<T, 'shape'> & { readonly shape?: Shape }
  : never;

/**
 * A function with `parameters`, in the order of their indices. The function returns the value of
 * `root`.
 */
export interface HloComputation {
  readonly name: string;
  readonly parameters: readonly Parameter[];
  readonly root: HloInstruction;
}

/**
 * Lets a result overwrite a parameter in HBM. `output` is the index of the result in the root
 * tuple, `parameter` the index of the parameter.
 */
export interface Alias {
  readonly output: number;
  readonly parameter: number;
}

/** A program for one replica. Every replica runs the same module. */
export interface HloModule {
  readonly name: string;
  readonly entry: HloComputation;
  readonly aliases: readonly Alias[];
}
