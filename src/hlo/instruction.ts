import type { Literal } from '../numerics/literal.ts';
import type { ArrayShape, Shape } from '../numerics/shape.ts';

/**
 * One operation of a computation. Opcodes and semantics are XLA's [openxla.org, Operation
 * Semantics]. Instructions are immutable and form a directed acyclic graph through `operands`. If
 * one instruction object is an operand of several instructions, it is computed only once.
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

/** Union of the instruction types whose `opcode` field admits `O`. */
export type InstructionOf<O extends Opcode> = Extract<OfOpcode<HloInstruction, O>, HloInstruction>;
type OfOpcode<T, O> = T extends { readonly opcode: infer P } ? (O extends P ? T : never) : never;

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
 * An element-wise choice between two arrays. Operands: the predicate, the array for true, the array
 * for false. All three have the same dimensions.
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
 * Repeats the operand to a larger shape. Dimension i of the operand becomes dimension
 * `dimensions[i]` of the result. Along each other dimension of the result, all elements are equal.
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
 * A part of the operand. Along dimension d, it has the elements with the indices `starts[d]`,
 * `starts[d]` + `strides[d]`, `starts[d]` + 2 · `strides[d]` and so on, up to but not including
 * `limits[d]`.
 */
export interface Slice extends InstructionBase<'slice'> {
  readonly starts: readonly number[];
  readonly limits: readonly number[];
  readonly strides: readonly number[];
}
/**
 * An array with padding. Operands: the array, the scalar value of the padding. Each field has one
 * number for each dimension of the array. `low` is the number of padding elements before the first
 * element, `high` after the last, and `interior` between any two neighbouring elements. If `low` or
 * `high` is negative, that many elements are removed instead.
 */
export interface Pad extends InstructionBase<'pad'> {
  readonly low: readonly number[];
  readonly high: readonly number[];
  readonly interior: readonly number[];
}
/**
 * Joins arrays one after another along `dimension`. Operands: the arrays. Their sizes may differ
 * only along this dimension.
 */
export interface Concatenate extends InstructionBase<'concatenate'> {
  readonly dimension: number;
}
/** The operand with the order of elements reversed along `dimensions`. */
export interface Reverse extends InstructionBase<'reverse'> {
  readonly dimensions: readonly number[];
}

/**
 * Precision of multiplications on the MXU. With `default`, f32 multiplicands are rounded to bf16
 * before they are multiplied, as on a TPU. With `highest`, they are multiplied in f32. Sums are f32
 * in both cases.
 */
export type Precision = 'default' | 'highest';

/**
 * Roles of the dimensions of a dot's two operands. Each list has the indices of the dimensions with
 * one role. A dimension that is in no list is called free.
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

/**
 * One dimension of a window. `size`, `stride`, `padLow` and `padHigh` are in elements. A dilation
 * of 1 means that there is no dilation.
 */
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
 * Roles of the dimensions of a convolution's three arrays: input, kernel and output. The value of
 * `inputBatch`, for example, is the index of the input's dimension with the role "batch". The same
 * holds for the other fields. Entry i of each `Spatial` list belongs to dimension i of the window.
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
 * Folds the elements of n inputs along `dimensions`. Operands: the n inputs, then n scalar initial
 * values. The elements are taken in row-major order. At each step, `body` takes n accumulated
 * values and one element of each input, and returns n new accumulated values. If n is 1, the result
 * is an array; otherwise it is a tuple of n arrays.
 */
export interface Reduce extends InstructionBase<'reduce', Shape> {
  readonly dimensions: readonly number[];
  readonly body: HloComputation;
}
/**
 * Folds the elements of each window of the input with `body`, in row-major order, starting from the
 * initial value. Operands: the input, the scalar initial value. Padding elements have the initial
 * value too.
 */
export interface ReduceWindow extends InstructionBase<'reduce-window'> {
  readonly window: readonly WindowDimension[];
  readonly body: HloComputation;
}
/**
 * Scatters values to selected positions. For example, it scatters the gradient of a max pooling to
 * the positions of the largest elements. Operands: an array, `source`, a scalar initial value.
 * `source` has one element for each window of the array.
 *
 * The result has the shape of the array. At first, it has the initial value at each position. Then
 * each window is handled as follows:
 *
 * 1. One position of the window is selected. At first, this is the first position in row-major
 *    order. The search then goes through the further positions. If `select` returns false for the
 *    element at the selected position and the element at the further position, the further position
 *    is selected instead.
 * 2. `scatter` combines the value of the result at the selected position with the window's element
 *    of `source`. This becomes the new value at that position.
 */
export interface SelectAndScatter extends InstructionBase<'select-and-scatter'> {
  readonly window: readonly WindowDimension[];
  readonly select: HloComputation;
  readonly scatter: HloComputation;
}
/**
 * Random bits of the generator Philox 4×32-10 (numerics/random.ts). Operand: the state, u32[4] =
 * (key0, key1, counter0, counter1). Result: the tuple (next state, random bits as u32).
 */
export interface RngBitGenerator extends InstructionBase<'rng-bit-generator', Shape> {
  readonly algorithm: 'rng_philox';
}
/**
 * Combines each operand over all replicas with `body`, which is usually a sum. With one operand,
 * the result is an array; with several operands, it is a tuple.
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
