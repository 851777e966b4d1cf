import type { Literal } from '../numerics/literal.ts';
import type { ArrayShape, Shape } from '../numerics/shape.ts';

/**
 * One operation of a computation, with XLA's opcodes and meaning [openxla.org, Operation
 * Semantics]. Instructions are immutable and form a directed acyclic graph through `operands`;
 * two operands that are the same object are the same value, computed once.
 */
export type HloInstruction =
  | Parameter
  | Constant
  | Iota
  | Unary
  | Binary
  | Compare
  | Select
  | Clamp
  | Convert
  | Broadcast
  | Reshape
  | Transpose
  | Slice
  | Pad
  | Concatenate
  | Reverse
  | Dot
  | Convolution
  | Reduce
  | ReduceWindow
  | SelectAndScatter
  | RngBitGenerator
  | AllReduce
  | AfterAll
  | Infeed
  | Outfeed
  | Tuple
  | GetTupleElement
  | Fusion;

/** The name of an operation, as XLA writes it. */
export type Opcode = HloInstruction['opcode'];

/** Element-wise operations on one array. */
export const unaryOpcodes = [
  'abs',
  'ceil',
  'cosine',
  'exponential',
  'exponential-minus-one',
  'floor',
  'is-finite',
  'log',
  'log-plus-one',
  'logistic',
  'negate',
  'not',
  'round-nearest-even',
  'rsqrt',
  'sign',
  'sine',
  'sqrt',
  'tanh',
] as const;
/** One of {@link unaryOpcodes}. */
export type UnaryOpcode = (typeof unaryOpcodes)[number];

/** Element-wise operations on two arrays of one shape. */
export const binaryOpcodes = [
  'add',
  'subtract',
  'multiply',
  'divide',
  'maximum',
  'minimum',
  'power',
  'remainder',
  'and',
  'or',
  'xor',
  'shift-left',
  'shift-right-arithmetic',
  'shift-right-logical',
] as const;
/** One of {@link binaryOpcodes}. */
export type BinaryOpcode = (typeof binaryOpcodes)[number];

interface Node<O extends string, S extends Shape = ArrayShape> {
  readonly opcode: O;
  readonly shape: S;
  readonly operands: readonly HloInstruction[];
  /** Where it comes from, a path such as `conv2/kernel`: names buffers and lines of listings. */
  readonly name?: string | undefined;
}

/** Argument `index` of its computation. */
export interface Parameter extends Node<'parameter', Shape> {
  readonly index: number;
}
/** A value that is part of the program. */
export interface Constant extends Node<'constant'> {
  readonly value: Literal;
}
/** Counts along `dimension`. */
export interface Iota extends Node<'iota'> {
  readonly dimension: number;
}
/** Operand: x. */
export interface Unary extends Node<UnaryOpcode> {}
/** Operands: a, b, of one shape. */
export interface Binary extends Node<BinaryOpcode> {}
/** Operands: a, b. The result is pred. */
export interface Compare extends Node<'compare'> {
  readonly direction: 'EQ' | 'NE' | 'LT' | 'LE' | 'GT' | 'GE';
}
/** operands: predicate, on true, on false, all of one size. */
export interface Select extends Node<'select'> {}
/** operands: minimum, value, maximum; the bounds are scalars or of the value's shape. */
export interface Clamp extends Node<'clamp'> {}
/** `convert` keeps the value, `bitcast-convert` the bits. */
export interface Convert extends Node<'convert' | 'bitcast-convert'> {}
/** `dimensions[i]` is where dimension i of the operand goes. */
export interface Broadcast extends Node<'broadcast'> {
  readonly dimensions: readonly number[];
}
/** Operand: x. Its elements stay in row-major order. */
export interface Reshape extends Node<'reshape'> {}
/** Dimension i of the result is dimension `permutation[i]` of the operand. */
export interface Transpose extends Node<'transpose'> {
  readonly permutation: readonly number[];
}
/** Operand: x. Elements starts, starts + strides, … below limits, of each dimension. */
export interface Slice extends Node<'slice'> {
  readonly starts: readonly number[];
  readonly limits: readonly number[];
  readonly strides: readonly number[];
}
/** operands: value, scalar. `low` and `high` may be negative, which cuts. */
export interface Pad extends Node<'pad'> {
  readonly low: readonly number[];
  readonly high: readonly number[];
  readonly interior: readonly number[];
}
/** Operands: arrays that differ along `dimension` alone. */
export interface Concatenate extends Node<'concatenate'> {
  readonly dimension: number;
}
/** Operand: x. */
export interface Reverse extends Node<'reverse'> {
  readonly dimensions: readonly number[];
}

/**
 * What the MXU multiplies: `default` rounds f32 multiplicands to bf16 as a TPU does; `highest`
 * multiplies in f32. Sums are f32 either way.
 */
export type Precision = 'default' | 'highest';

/** The roles of the dimensions of both operands; all others are free. */
export interface DotDimensions {
  readonly lhsBatch: readonly number[];
  readonly rhsBatch: readonly number[];
  readonly lhsContracting: readonly number[];
  readonly rhsContracting: readonly number[];
}
/** Result dimensions: batch, then what is left of lhs, then what is left of rhs. */
export interface Dot extends Node<'dot'>, DotDimensions {
  readonly precision: Precision;
}

/** One spatial dimension of a window. Sizes in elements; dilation 1 is none. */
export interface WindowDimension {
  readonly size: number;
  readonly stride: number;
  readonly padLow: number;
  readonly padHigh: number;
  readonly baseDilation: number;
  readonly windowDilation: number;
  readonly reversal: boolean;
}
/** Which dimension of each array is what; the `spatial` lists run in step. */
export interface ConvolutionDimensions {
  readonly inputBatch: number;
  readonly inputFeature: number;
  readonly inputSpatial: readonly number[];
  readonly kernelInputFeature: number;
  readonly kernelOutputFeature: number;
  readonly kernelSpatial: readonly number[];
  readonly outputBatch: number;
  readonly outputFeature: number;
  readonly outputSpatial: readonly number[];
}
export interface Convolution extends Node<'convolution'> {
  readonly window: readonly WindowDimension[];
  readonly dimensions: ConvolutionDimensions;
  readonly featureGroupCount: number;
  readonly batchGroupCount: number;
  readonly precision: Precision;
}

/**
 * operands: n inputs, n scalar initial values. `body` takes 2n scalars (n accumulated, n new).
 * Elements are taken in row-major order of the reduced dimensions, starting from the initial
 * value: ((init ∘ x0) ∘ x1) ∘ …. The shape is a tuple when n > 1.
 */
export interface Reduce extends Node<'reduce', Shape> {
  readonly dimensions: readonly number[];
  readonly body: HloComputation;
}
/** operands: input, scalar. Within a window in row-major order; padding is the initial value. */
export interface ReduceWindow extends Node<'reduce-window'> {
  readonly window: readonly WindowDimension[];
  readonly body: HloComputation;
}
/**
 * operands: operand, source, scalar initial value. Each window of the operand, in row-major
 * order, selects one element (the first that no later one beats), and source is scattered there.
 */
export interface SelectAndScatter extends Node<'select-and-scatter'> {
  readonly window: readonly WindowDimension[];
  readonly select: HloComputation;
  readonly scatter: HloComputation;
}
/**
 * operands: state u32[4] = (key0, key1, counter0, counter1). Shape: (new state, u32 bits).
 * Philox 4×32-10, see numerics/random.ts.
 */
export interface RngBitGenerator extends Node<'rng-bit-generator', Shape> {
  readonly algorithm: 'rng_philox';
}
/** Sums (or whatever `body` says) over all replicas. Several operands: a tuple of results. */
export interface AllReduce extends Node<'all-reduce', Shape> {
  readonly body: HloComputation;
}
/** Operands: tokens. The result is a token that comes after them. */
export interface AfterAll extends Node<'after-all', Shape> {}
/** operands: token. Shape: (data, token); data is an array or a tuple of arrays. */
export interface Infeed extends Node<'infeed', Shape> {}
/** operands: data (array or tuple), token. Shape: token. */
export interface Outfeed extends Node<'outfeed', Shape> {}
/** Operands: the elements. */
export interface Tuple extends Node<'tuple', Shape> {}
/** Operand: a tuple. */
export interface GetTupleElement extends Node<'get-tuple-element', Shape> {
  readonly index: number;
}
/** A computation run as one loop; made by the compiler. `body` has one parameter per operand. */
export interface Fusion extends Node<'fusion', Shape> {
  readonly kind: 'loop' | 'reduce';
  readonly body: HloComputation;
}

/** Named, with its parameters in order; `root` is what it returns. */
export interface HloComputation {
  readonly name: string;
  readonly parameters: readonly Parameter[];
  readonly root: HloInstruction;
}

/** Element `output` of the root tuple takes the place of parameter `parameter` in HBM. */
export interface Alias {
  readonly output: number;
  readonly parameter: number;
}

/** A program for one replica; every replica runs the same one. */
export interface HloModule {
  readonly name: string;
  readonly entry: HloComputation;
  readonly aliases: readonly Alias[];
}
