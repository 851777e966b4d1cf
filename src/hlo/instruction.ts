import type { Literal } from '../numerics/literal.ts';
import type { ArrayShape, Shape } from '../numerics/shape.ts';

/**
 * One operation of a computation, with XLA's opcodes and semantics [openxla.org, Operation
 * Semantics]. Instructions are immutable and form a directed acyclic graph through `operands`. An
 * instruction object that is an operand in several places is computed once.
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

/** Name of an operation, in XLA's spelling. */
export type Opcode = HloInstruction['opcode'];

/** Opcodes of element-wise operations on one array. */
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

/** Opcodes of element-wise operations on two arrays of one shape. */
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

interface InstructionBase<O extends string, S extends Shape = ArrayShape> {
  readonly opcode: O;
  readonly shape: S;
  readonly operands: readonly HloInstruction[];
  /**
   * Path of the part of the model to which the instruction belongs, such as `conv2/kernel`. The
   * compiler names buffers after this path.
   */
  readonly name?: string | undefined;
}

/** The parameter with index `index` of a computation. Indices count from 0. No operands. */
export interface Parameter extends InstructionBase<'parameter', Shape> {
  readonly index: number;
}
/** An array whose value is part of the program. No operands. */
export interface Constant extends InstructionBase<'constant'> {
  readonly value: Literal;
}
/** An array that counts 0, 1, 2, … along `dimension`. No operands. */
export interface Iota extends InstructionBase<'iota'> {
  readonly dimension: number;
}
/** An element-wise operation on one array. Operand: x. */
export interface Unary extends InstructionBase<UnaryOpcode> {}
/** An element-wise operation on two arrays. Operands: a, b, of one shape. */
export interface Binary extends InstructionBase<BinaryOpcode> {}
/** An element-wise comparison. Operands: a, b. The result is pred. */
export interface Compare extends InstructionBase<'compare'> {
  readonly direction: 'EQ' | 'NE' | 'LT' | 'LE' | 'GT' | 'GE';
}
/**
 * An element-wise choice between two arrays. Operands: the predicate, the values for true, the
 * values for false, all of the same dimensions.
 */
export interface Select extends InstructionBase<'select'> {}
/**
 * Limits a value to a range. Operands: minimum, value, maximum. Minimum and maximum are scalars or
 * have the shape of the value.
 */
export interface Clamp extends InstructionBase<'clamp'> {}
/** A change of element type. Operand: x. `convert` keeps the values, `bitcast-convert` the bits. */
export interface Convert extends InstructionBase<'convert' | 'bitcast-convert'> {}
/**
 * An operand repeated to a larger shape. Dimension i of the operand becomes dimension
 * `dimensions[i]` of the result.
 */
export interface Broadcast extends InstructionBase<'broadcast'> {
  readonly dimensions: readonly number[];
}
/** The operand's elements, in unchanged row-major order, as an array of other dimensions. */
export interface Reshape extends InstructionBase<'reshape'> {}
/**
 * The operand with permuted dimensions: dimension i of the result is dimension `permutation[i]` of
 * the operand.
 */
export interface Transpose extends InstructionBase<'transpose'> {
  readonly permutation: readonly number[];
}
/**
 * A part of the operand. Along dimension d it has the elements with the indices `starts[d]`,
 * `starts[d]` + `strides[d]` and so on, as long as the index is below `limits[d]`.
 */
export interface Slice extends InstructionBase<'slice'> {
  readonly starts: readonly number[];
  readonly limits: readonly number[];
  readonly strides: readonly number[];
}
/**
 * An array with padding. Operands: the array, the scalar that is the value of the padding. Each
 * field has one number of padding elements for each dimension: `low` elements before the first
 * element, `high` after the last, `interior` between any two neighbours. If `low` or `high` is
 * negative, that many elements are removed instead.
 */
export interface Pad extends InstructionBase<'pad'> {
  readonly low: readonly number[];
  readonly high: readonly number[];
  readonly interior: readonly number[];
}
/**
 * Arrays joined one after another along `dimension`. Operands: the arrays, which may differ only in
 * the size of this dimension.
 */
export interface Concatenate extends InstructionBase<'concatenate'> {
  readonly dimension: number;
}
/** The operand with the order of elements reversed along `dimensions`. */
export interface Reverse extends InstructionBase<'reverse'> {
  readonly dimensions: readonly number[];
}

/**
 * Precision of multiplications on the MXU. `default` rounds f32 multiplicands to bf16 as a TPU
 * does; `highest` multiplies in f32. Sums are f32 in both cases.
 */
export type Precision = 'default' | 'highest';

/**
 * Roles of the dimensions of a dot's operands. A dimension that is in none of the lists is called
 * free.
 */
export interface DotDimensions {
  readonly lhsBatch: readonly number[];
  readonly rhsBatch: readonly number[];
  readonly lhsContracting: readonly number[];
  readonly rhsContracting: readonly number[];
}
/**
 * Sums of products over the contracting dimensions. Operands: lhs, rhs. The result has, in this
 * order, the batch dimensions, the free dimensions of lhs and the free dimensions of rhs.
 */
export interface Dot extends InstructionBase<'dot'>, DotDimensions {
  readonly precision: Precision;
}

/** One dimension of a window. Sizes are in elements. A dilation of 1 means no dilation. */
export interface WindowDimension {
  readonly size: number;
  readonly stride: number;
  readonly padLow: number;
  readonly padHigh: number;
  readonly baseDilation: number;
  readonly windowDilation: number;
  readonly reversal: boolean;
}
/**
 * Roles of the dimensions of a convolution's three arrays: input, kernel and output. The name of a
 * field names an array and a role; the value is the index of the dimension of that array which has
 * the role. Entry i of each of the three `Spatial` lists belongs to dimension i of the window.
 */
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
export interface Convolution extends InstructionBase<'convolution'> {
  readonly window: readonly WindowDimension[];
  readonly dimensions: ConvolutionDimensions;
  readonly featureGroupCount: number;
  readonly batchGroupCount: number;
  readonly precision: Precision;
}

/**
 * Folds the elements along `dimensions`. Operands: n inputs, then n scalar initial values. The
 * elements are taken in row-major order. For each element, `body` takes n accumulated values and
 * the n elements of the inputs, and returns the n new accumulated values. The result is an array
 * if n is 1, otherwise a tuple of n arrays.
 */
export interface Reduce extends InstructionBase<'reduce', Shape> {
  readonly dimensions: readonly number[];
  readonly body: HloComputation;
}
/**
 * Folds the elements of each window of the input with `body`, in row-major order. Operands: input,
 * scalar initial value. A padding element has the initial value.
 */
export interface ReduceWindow extends InstructionBase<'reduce-window'> {
  readonly window: readonly WindowDimension[];
  readonly body: HloComputation;
}
/**
 * Scatters values to selected positions, for example the gradient of a max pooling to the positions
 * of the largest elements. Operands: array, source, scalar initial value. `source` has one element
 * for each window of the array.
 *
 * The result has the shape of the array and at first the initial value everywhere. Then for each
 * window:
 *
 * 1. One position of the window is selected. The search begins with the first element in row-major
 *    order. Each further element `next` replaces the selected one if `select(selected, next)` is
 *    false.
 * 2. `scatter` combines the value of the result at the selected position with the window's element
 *    of `source`. This is the new value at the position.
 */
export interface SelectAndScatter extends InstructionBase<'select-and-scatter'> {
  readonly window: readonly WindowDimension[];
  readonly select: HloComputation;
  readonly scatter: HloComputation;
}
/**
 * Random bits of Philox 4×32-10, see numerics/random.ts. Operand: state u32[4] = (key0, key1,
 * counter0, counter1). Result: the tuple (new state, u32 bits).
 */
export interface RngBitGenerator extends InstructionBase<'rng-bit-generator', Shape> {
  readonly algorithm: 'rng_philox';
}
/**
 * Combines each operand over all replicas by `body`, usually a sum. With several operands, the
 * result is a tuple.
 */
export interface AllReduce extends InstructionBase<'all-reduce', Shape> {
  readonly body: HloComputation;
}
/**
 * Combines several tokens into one. Operands: the tokens. An instruction that uses the result runs
 * after the instructions that produced the operands.
 */
export interface AfterAll extends InstructionBase<'after-all', Shape> {}
/**
 * Data from the host. Operand: token. Result: (data, token). Data is an array or a tuple of arrays.
 */
export interface Infeed extends InstructionBase<'infeed', Shape> {}
/** Sends data to the host. Operands: data (an array or a tuple of arrays), token. Result: token. */
export interface Outfeed extends InstructionBase<'outfeed', Shape> {}
/** A tuple of several values. Operands: the elements of the tuple. */
export interface Tuple extends InstructionBase<'tuple', Shape> {}
/** Element `index` of a tuple. Operand: the tuple. */
export interface GetTupleElement extends InstructionBase<'get-tuple-element', Shape> {
  readonly index: number;
}
/**
 * A computation that runs as one fused loop. The compiler makes fusions from other instructions.
 * `body` has one parameter for each operand.
 */
export interface Fusion extends InstructionBase<'fusion', Shape> {
  readonly kind: 'loop' | 'reduce';
  readonly body: HloComputation;
}

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
 * A result that shares memory with a parameter. In HBM, the element of the root tuple with index
 * `output` overwrites the parameter with index `parameter`.
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
