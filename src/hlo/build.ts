import { at } from '../numerics/assert.ts';
import { type ElementType, leastOf, type Scalar } from '../numerics/element-type.ts';
import { type Literal, literal } from '../numerics/literal.ts';
import type { FloatFormat } from '../numerics/reduce-precision.ts';
import { type ArrayShape, arrayShape, isArray, type Shape, tupleShape } from '../numerics/shape.ts';
import { inferShape } from './infer.ts';
import type {
  AfterAll,
  Alias,
  AllReduce,
  Binary,
  BinaryOpcode,
  Broadcast,
  Clamp,
  Compare,
  Concatenate,
  Constant,
  Convert,
  Convolution,
  Dot,
  DotDimensions,
  Draft,
  Fusion,
  GetTupleElement,
  HloComputation,
  HloInstruction,
  HloModule,
  Infeed,
  Iota,
  Outfeed,
  Pad,
  Parameter,
  Precision,
  Reduce,
  ReducePrecision,
  ReduceWindow,
  Reshape,
  Reverse,
  RngBitGenerator,
  Select,
  SelectAndScatter,
  Slice,
  Transpose,
  Tuple,
  Unary,
  UnaryOpcode,
  WindowDimension,
} from './instruction.ts';
import { refuse } from './ops/check.ts';
import { bitcastDims } from './ops/elementwise.ts';
import type { ReplicaGroups } from './ops/groups.ts';

export { windowDimension } from './window.ts';

/**
 * This file has one function for each opcode. The function makes an instruction and infers the
 * shape of the result. If the arguments break a rule of the opcode, the function throws
 * `bad-program`. The meaning of each opcode is described in instruction.ts and in XLA's "Operation
 * Semantics".
 */

/** The parameter with index `index` of a computation. Indices count from 0. */
export function parameter(index: number, shape: Shape, name?: string): Parameter {
  return make<Parameter>({ opcode: 'parameter', shape, operands: [], index, name });
}

/** An array whose value is part of the program. */
export function constant(value: Literal, name?: string): Constant {
  return make<Constant>({ opcode: 'constant', operands: [], value, name });
}

/** A constant scalar. */
export function scalar(type: ElementType, value: Scalar): Constant {
  return constant(literal(type, [], [value]));
}

/** An array filled with one value. */
export function full(type: ElementType, dims: readonly number[], value: number): HloInstruction {
  return broadcastScalar(scalar(type, value), dims);
}

/**
 * An array in which the value of each element is the element's index along `dimension`: 0, 1, 2, …
 */
export function iota(shape: ArrayShape, dimension: number): Iota {
  return make<Iota>({ opcode: 'iota', shape, operands: [], dimension });
}

/**
 * The element-wise operation `opcode` on one array. The result has the dimensions of x. For
 * `is-finite`, its element type is pred; for all other opcodes, it is that of x.
 */
export function unary(opcode: UnaryOpcode, x: HloInstruction): Unary {
  return make<Unary>({ opcode, operands: [x] });
}
/** |x|, element by element. */
export function abs(x: HloInstruction): Unary {
  return unary('abs', x);
}
/** x rounded up to an integer, as a float. */
export function ceil(x: HloInstruction): Unary {
  return unary('ceil', x);
}
/** Cosine of x in radians. */
export function cos(x: HloInstruction): Unary {
  return unary('cosine', x);
}
/** e to the power of x. */
export function exp(x: HloInstruction): Unary {
  return unary('exponential', x);
}
/** e^x − 1, without loss of precision near 0. */
export function expm1(x: HloInstruction): Unary {
  return unary('exponential-minus-one', x);
}
/** x rounded down to an integer, as a float. */
export function floor(x: HloInstruction): Unary {
  return unary('floor', x);
}
/** True, as pred, for elements of x that are neither infinite nor NaN. */
// biome-ignore lint/suspicious/noShadowRestrictedNames: this file never calls the global isFinite.
export function isFinite(x: HloInstruction): Unary {
  return unary('is-finite', x);
}
/** Natural logarithm of x. */
export function log(x: HloInstruction): Unary {
  return unary('log', x);
}
/** Natural logarithm of 1 + x, without loss of precision near 0. */
export function log1p(x: HloInstruction): Unary {
  return unary('log-plus-one', x);
}
/** 1 / (1 + e^−x). */
export function logistic(x: HloInstruction): Unary {
  return unary('logistic', x);
}
/** −x. */
export function negate(x: HloInstruction): Unary {
  return unary('negate', x);
}
/** Bitwise complement for integers, logical negation for pred. */
export function not(x: HloInstruction): Unary {
  return unary('not', x);
}
/** x rounded to the nearest integer, ties to even, as a float. */
export function roundNearestEven(x: HloInstruction): Unary {
  return unary('round-nearest-even', x);
}
/** 1 / √x. */
export function rsqrt(x: HloInstruction): Unary {
  return unary('rsqrt', x);
}
/** Sign of x: −1, 0 or 1. −0 and NaN stay as they are. */
export function sign(x: HloInstruction): Unary {
  return unary('sign', x);
}
/** Sine of x in radians. */
export function sin(x: HloInstruction): Unary {
  return unary('sine', x);
}
/** Square root of x. */
export function sqrt(x: HloInstruction): Unary {
  return unary('sqrt', x);
}
/** Hyperbolic tangent of x. */
export function tanh(x: HloInstruction): Unary {
  return unary('tanh', x);
}
/** Cube root of x. */
export function cbrt(x: HloInstruction): Unary {
  return unary('cbrt', x);
}
/** Tangent of x in radians. */
export function tan(x: HloInstruction): Unary {
  return unary('tan', x);
}
/** Error function of x. */
export function erf(x: HloInstruction): Unary {
  return unary('erf', x);
}
/** x rounded to the nearest integer, ties away from zero, as a float. */
export function roundNearestAfz(x: HloInstruction): Unary {
  return unary('round-nearest-afz', x);
}
/** Number of ones among the bits of an integer. */
export function popcnt(x: HloInstruction): Unary {
  return unary('popcnt', x);
}
/** Number of zeros above the highest one among the bits of an integer. */
export function countLeadingZeros(x: HloInstruction): Unary {
  return unary('count-leading-zeros', x);
}

/** The element-wise operation `opcode` on two arrays of one shape. */
export function binary(opcode: BinaryOpcode, a: HloInstruction, b: HloInstruction): Binary {
  return make<Binary>({ opcode, operands: [a, b] });
}
/** a + b. Integers wrap modulo 2^32. */
export function add(a: HloInstruction, b: HloInstruction): Binary {
  return binary('add', a, b);
}
/** a − b. Integers wrap modulo 2^32. */
export function subtract(a: HloInstruction, b: HloInstruction): Binary {
  return binary('subtract', a, b);
}
/** a · b. Integers wrap modulo 2^32. */
export function multiply(a: HloInstruction, b: HloInstruction): Binary {
  return binary('multiply', a, b);
}
/** a / b. Integer quotients are rounded towards zero. */
export function divide(a: HloInstruction, b: HloInstruction): Binary {
  return binary('divide', a, b);
}
/** The greater of a and b, or NaN if either is NaN. */
export function maximum(a: HloInstruction, b: HloInstruction): Binary {
  return binary('maximum', a, b);
}
/** The lesser of a and b, or NaN if either is NaN. */
export function minimum(a: HloInstruction, b: HloInstruction): Binary {
  return binary('minimum', a, b);
}
/** a to the power of b. */
export function power(a: HloInstruction, b: HloInstruction): Binary {
  return binary('power', a, b);
}
/** a − b · trunc(a / b). The result has the sign of a. */
export function remainder(a: HloInstruction, b: HloInstruction): Binary {
  return binary('remainder', a, b);
}
/** Bitwise AND of a and b. */
export function and(a: HloInstruction, b: HloInstruction): Binary {
  return binary('and', a, b);
}
/** Bitwise OR of a and b. */
export function or(a: HloInstruction, b: HloInstruction): Binary {
  return binary('or', a, b);
}
/** Bitwise XOR (exclusive or) of a and b. */
export function xor(a: HloInstruction, b: HloInstruction): Binary {
  return binary('xor', a, b);
}
/** a shifted left by b bits. Bits that leave the 32-bit word are lost. */
export function shiftLeft(a: HloInstruction, b: HloInstruction): Binary {
  return binary('shift-left', a, b);
}
/** a shifted right by b bits, filled with the sign bit. */
export function shiftRightArithmetic(a: HloInstruction, b: HloInstruction): Binary {
  return binary('shift-right-arithmetic', a, b);
}
/** a shifted right by b bits, filled with zeros. */
export function shiftRightLogical(a: HloInstruction, b: HloInstruction): Binary {
  return binary('shift-right-logical', a, b);
}
/** Angle of the point (x, y) in radians, −π … π. */
export function atan2(y: HloInstruction, x: HloInstruction): Binary {
  return binary('atan2', y, x);
}

/**
 * Compares a with b, element by element. `direction` says how: `LT`, for example, means a < b. The
 * element type of the result is pred; an element is true where the comparison holds. With the order
 * `total`, floats are in the total order of IEEE 754, from −NaN to +NaN.
 */
export function compare(
  direction: Compare['direction'],
  a: HloInstruction,
  b: HloInstruction,
  order?: Compare['order'],
): Compare {
  const total = order === undefined ? {} : { order };
  return make<Compare>({ opcode: 'compare', operands: [a, b], direction, ...total });
}

/**
 * Selects element by element: the element of `onTrue` where p is true, the element of `onFalse`
 * where p is false. All three operands must have the same dimensions.
 */
export function select(p: HloInstruction, onTrue: HloInstruction, onFalse: HloInstruction): Select {
  return make<Select>({ opcode: 'select', operands: [p, onTrue, onFalse] });
}

/** x limited to `low` … `high`. Each bound is a scalar or has the shape of x. */
export function clamp(low: HloInstruction, x: HloInstruction, high: HloInstruction): Clamp {
  return make<Clamp>({ opcode: 'clamp', operands: [low, x, high] });
}

/** The values of x converted to another element type. */
export function convert(x: HloInstruction, type: ElementType): Convert {
  const draft: Draft<Convert> = { opcode: 'convert', operands: [x] };
  return make<Convert>({ ...draft, shape: arrayShape(type, arrayOf(draft, x).dims) });
}

/** The floats x rounded to a format with fewer bits of exponent and mantissa. */
export function reducePrecision(x: HloInstruction, format: FloatFormat): ReducePrecision {
  const { exponentBits, mantissaBits } = format;
  const opcode = 'reduce-precision';
  return make<ReducePrecision>({ opcode, operands: [x], exponentBits, mantissaBits });
}

/** The bits of x as elements of another type, see {@link Convert} for types of another width. */
export function bitcastConvert(x: HloInstruction, type: ElementType): Convert {
  const draft: Draft<Convert> = { opcode: 'bitcast-convert', operands: [x] };
  const shape = arrayOf(draft, x);
  const dims = bitcastDims(shape, type) ?? shape.dims;
  return make<Convert>({ ...draft, shape: arrayShape(type, dims) });
}

/**
 * Repeats x to an array of dimensions `dims`. Dimension i of x becomes dimension `dimensions[i]` of
 * the result. Along each other dimension of the result, all elements are equal.
 */
export function broadcast(
  x: HloInstruction,
  dims: readonly number[],
  dimensions: readonly number[],
): Broadcast {
  const draft: Draft<Broadcast> = { opcode: 'broadcast', operands: [x], dimensions };
  return make<Broadcast>({ ...draft, shape: arrayShape(arrayOf(draft, x).type, dims) });
}

/** A scalar repeated to an array of dimensions `dims`. */
export function broadcastScalar(x: HloInstruction, dims: readonly number[]): Broadcast {
  return broadcast(x, dims, []);
}

/** The elements of x, in unchanged row-major order, as an array of dimensions `dims`. */
export function reshape(x: HloInstruction, dims: readonly number[]): Reshape {
  const draft: Draft<Reshape> = { opcode: 'reshape', operands: [x] };
  return make<Reshape>({ ...draft, shape: arrayShape(arrayOf(draft, x).type, dims) });
}

/** x with permuted dimensions: dimension d of the result is dimension `permutation[d]` of x. */
export function transpose(x: HloInstruction, permutation: readonly number[]): Transpose {
  return make<Transpose>({ opcode: 'transpose', operands: [x], permutation });
}

/**
 * A part of x. Along dimension d, it has the elements of x with the indices `starts[d]`,
 * `starts[d]` + `strides[d]`, `starts[d]` + 2 · `strides[d]` and so on, up to but not including
 * `limits[d]`. By default, all strides are 1.
 */
export function slice(
  x: HloInstruction,
  starts: readonly number[],
  limits: readonly number[],
  strides: readonly number[] = starts.map(() => 1),
): Slice {
  return make<Slice>({ opcode: 'slice', operands: [x], starts, limits, strides });
}

/**
 * Padding of an array. Each field has one number for each dimension of the array. `low` is the
 * number of padding elements before the first element, `high` after the last, and `interior`
 * between any two neighbouring elements. If `low` or `high` is negative, that many elements are
 * removed instead.
 */
export type Padding = Pick<Pad, 'low' | 'high' | 'interior'>;

/** x padded with the scalar `value` around and between its elements. */
export function pad(x: HloInstruction, value: HloInstruction, padding: Padding): Pad {
  const { low, high, interior } = padding;
  return make<Pad>({ opcode: 'pad', operands: [x, value], low, high, interior });
}

/**
 * Joins arrays one after another along `dimension`. All other dimensions of the arrays must be
 * equal.
 */
export function concatenate(xs: readonly HloInstruction[], dimension: number): Concatenate {
  return make<Concatenate>({ opcode: 'concatenate', operands: xs, dimension });
}

/** x with the order of its elements reversed along `dimensions`. */
export function reverse(x: HloInstruction, dimensions: readonly number[]): Reverse {
  return make<Reverse>({ opcode: 'reverse', operands: [x], dimensions });
}

/**
 * Multiplies lhs with rhs and sums the products over the contracting dimensions. The result has, in
 * this order, the batch dimensions, the other dimensions of lhs and the other dimensions of rhs. Its
 * elements have the type `type`, by default that of the operands.
 */
export function dot(
  lhs: HloInstruction,
  rhs: HloInstruction,
  dimensions: DotDimensions,
  precision: Precision = 'default',
  type?: ElementType,
): Dot {
  const { lhsBatch, rhsBatch, lhsContracting, rhsContracting } = dimensions;
  const roles = { lhsBatch, rhsBatch, lhsContracting, rhsContracting };
  const made = { opcode: 'dot', operands: [lhs, rhs], ...roles, precision } as const;
  return make<Dot>({ ...made, ...stated(type) });
}

/**
 * Returns a shape with the given element type and no dimensions, for the inference of shapes. The
 * inference takes the type from it, and finds the dimensions by itself.
 */
function stated(type: ElementType | undefined): { readonly shape?: ArrayShape } {
  return type === undefined ? {} : { shape: arrayShape(type, []) };
}

/** Matmul of two matrices: [m,k] × [k,n] → [m,n]. */
export function matmul(lhs: HloInstruction, rhs: HloInstruction, precision?: Precision): Dot {
  const plain = { lhsBatch: [], rhsBatch: [], lhsContracting: [1], rhsContracting: [0] };
  return dot(lhs, rhs, plain, precision);
}

/**
 * Attributes of a convolution, and the element type of its result. By default, `featureGroupCount`
 * and `batchGroupCount` are 1, `precision` is `default`, and `type` is that of the operands.
 */
export type ConvolutionOptions = Pick<Convolution, 'window' | 'dimensions'> &
  Partial<Pick<Convolution, 'featureGroupCount' | 'batchGroupCount' | 'precision'>> & {
    readonly type?: ElementType;
  };

/**
 * Convolution. The window moves over the input. Each element of the result belongs to one position
 * of the window and to one output feature. The element is the sum of the products of the input's
 * elements in the window with the elements of the kernel, over all input features.
 */
export function convolution(
  input: HloInstruction,
  kernel: HloInstruction,
  options: ConvolutionOptions,
): Convolution {
  return make<Convolution>({
    opcode: 'convolution',
    operands: [input, kernel],
    window: options.window,
    dimensions: options.dimensions,
    featureGroupCount: options.featureGroupCount ?? 1,
    batchGroupCount: options.batchGroupCount ?? 1,
    precision: options.precision ?? 'default',
    ...stated(options.type),
  });
}

/**
 * Folds the elements of each input along `dimensions` with `body`. Input i starts from the initial
 * value `inits[i]`, so `inputs` and `inits` have the same length. With one input, the result is an
 * array; with several inputs, it is a tuple.
 */
export function reduce(
  inputs: HloInstruction | readonly HloInstruction[],
  inits: HloInstruction | readonly HloInstruction[],
  dimensions: readonly number[],
  body: HloComputation,
): Reduce {
  const operands = [...listOf(inputs), ...listOf(inits)];
  return make<Reduce>({ opcode: 'reduce', operands, dimensions, body });
}

/** The sum of x along `dimensions`. */
export function reduceSum(x: HloInstruction, dimensions: readonly number[]): Reduce {
  const { type } = arrayOf({ opcode: 'tuple', operands: [x] }, x);
  return reduce(x, scalar(type, 0), dimensions, adder(type));
}

/**
 * The maximum of x along `dimensions`. If there are no elements, the result is the least value of
 * the element type.
 */
export function reduceMax(x: HloInstruction, dimensions: readonly number[]): Reduce {
  const { type } = arrayOf({ opcode: 'tuple', operands: [x] }, x);
  return reduce(x, scalar(type, leastOf(type)), dimensions, maximizer(type));
}

/**
 * Folds the elements of each window of the inputs with `body`, starting from the initial values. The
 * windows also cover the padding of the inputs, which `window` describes. With one input, the result
 * is an array; with several inputs, it is a tuple.
 */
export function reduceWindow(
  inputs: HloInstruction | readonly HloInstruction[],
  inits: HloInstruction | readonly HloInstruction[],
  window: readonly WindowDimension[],
  body: HloComputation,
): ReduceWindow {
  const operands = [...listOf(inputs), ...listOf(inits)];
  return make<ReduceWindow>({ opcode: 'reduce-window', operands, window, body });
}

/**
 * Scatters the elements of `source` over an array with the shape of `operand`. Each element of
 * `source` belongs to one window of `operand`. In this window, `select` chooses the position that
 * receives the element. A position may receive several elements, or none. Its value in the result
 * is `init`, combined by `scatter` with each element that it receives. The gradient of a max
 * pooling is an example.
 */
export function selectAndScatter(
  operand: HloInstruction,
  source: HloInstruction,
  init: HloInstruction,
  window: readonly WindowDimension[],
  select: HloComputation,
  scatter: HloComputation,
): SelectAndScatter {
  const operands = [operand, source, init];
  const opcode = 'select-and-scatter';
  return make<SelectAndScatter>({ opcode, operands, window, select, scatter });
}

/**
 * Random bits of a generator, by default of Philox 4×32-10. The result is the tuple (next state,
 * random bits). `bits` is the shape of the random bits; its element type must be an integer type.
 */
export function rngBitGenerator(
  state: HloInstruction,
  bits: ArrayShape,
  algorithm: RngBitGenerator['algorithm'] = 'rng_philox',
): RngBitGenerator {
  const shape = tupleShape([state.shape, bits]);
  const opcode = 'rng-bit-generator';
  return make<RngBitGenerator>({ opcode, shape, operands: [state], algorithm });
}

/**
 * Combines each operand over all replicas with `body`. If `body` is undefined, the operands are
 * summed.
 */
export function allReduce(
  operands: HloInstruction | readonly HloInstruction[],
  body?: HloComputation,
  groups: ReplicaGroups = [],
): AllReduce {
  const list = listOf(operands);
  const first = list[0];
  const opcode = 'all-reduce';
  if (first === undefined) {
    return refuse({ opcode, operands: [], groups, body: adder('f32') }, 'at least one operand');
  }
  const { type } = arrayOf({ opcode: 'tuple', operands: list }, first);
  return make<AllReduce>({ opcode, operands: list, groups, body: body ?? adder(type) });
}

/**
 * Combines `tokens` into one token. An instruction that uses the new token runs after the
 * instructions that produced `tokens`.
 */
export function afterAll(...tokens: readonly HloInstruction[]): AfterAll {
  return make<AfterAll>({ opcode: 'after-all', operands: tokens });
}

/**
 * Receives data from the host. `data` is the shape of these data: an array or a tuple of arrays.
 * The result is the tuple (data, token).
 */
export function infeed(token: HloInstruction, data: Shape): Infeed {
  const shape = tupleShape([data, { type: 'token' }]);
  return make<Infeed>({ opcode: 'infeed', shape, operands: [token] });
}

/** Sends data to the host. The result is a token. */
export function outfeed(data: HloInstruction, token: HloInstruction): Outfeed {
  return make<Outfeed>({ opcode: 'outfeed', operands: [data, token] });
}

/** Combines several values to a tuple. */
export function tuple(elements: readonly HloInstruction[]): Tuple {
  return make<Tuple>({ opcode: 'tuple', operands: elements });
}

/** Element `index` of a tuple. */
export function getTupleElement(x: HloInstruction, index: number): GetTupleElement {
  return make<GetTupleElement>({ opcode: 'get-tuple-element', operands: [x], index });
}

/** Runs `body` as one fused loop on the vector unit. */
export function fusion(
  kind: Fusion['kind'],
  operands: readonly HloInstruction[],
  body: HloComputation,
): Fusion {
  return make<Fusion>({ opcode: 'fusion', operands, kind, body });
}

/** Returns a copy of an instruction that has the given name, a path such as `conv2/kernel`. */
export function named<T extends HloInstruction>(x: T, name: string): T {
  return { ...x, name };
}

/** Makes a computation: a function of its parameters that returns the value of `root`. */
export function computation(
  name: string,
  parameters: readonly Parameter[],
  root: HloInstruction,
): HloComputation {
  return { name, parameters, root };
}

/** Makes a module with an entry computation named `main`. */
export function module(
  name: string,
  parameters: readonly Parameter[],
  root: HloInstruction,
  aliases: readonly Alias[] = [],
): HloModule {
  return { name, entry: computation('main', parameters, root), aliases };
}

/** The computation (a, b) → a + b on scalars. Calls with the same type return the same object. */
export function adder(type: ElementType): HloComputation {
  return cachedComputation(`add_${type}`, type, add);
}
/**
 * The computation (a, b) → maximum(a, b) on scalars. Calls with the same type return the same
 * object.
 */
export function maximizer(type: ElementType): HloComputation {
  return cachedComputation(`max_${type}`, type, maximum);
}
/** The computation (a, b) → a ≥ b on scalars. Calls with the same type return the same object. */
export function greaterOrEqual(type: ElementType): HloComputation {
  return cachedComputation(`ge_${type}`, type, (a, b) => compare('GE', a, b));
}

const scalarComputations = new Map<string, HloComputation>();

function cachedComputation(
  name: string,
  type: ElementType,
  body: (a: HloInstruction, b: HloInstruction) => HloInstruction,
): HloComputation {
  const known = scalarComputations.get(name);
  if (known !== undefined) return known;
  const parameters = [0, 1].map((i) => parameter(i, arrayShape(type, [])));
  const made = computation(name, parameters, body(at(parameters, 0), at(parameters, 1)));
  scalarComputations.set(name, made);
  return made;
}

/**
 * Makes an instruction from a draft, which is an instruction without a shape. The shape is inferred
 * from the operands and the attributes. For some opcodes, such as `reshape`, the shape does not
 * follow from these; then the draft has the shape too.
 */
export function make<T extends HloInstruction>(draft: Draft<T>): T {
  // TypeScript cannot prove that a Draft<T> with a shape is a T, because T is generic.
  const open = draft as unknown as Draft;
  return { ...open, shape: inferShape(open) } as unknown as T;
}

function listOf(xs: HloInstruction | readonly HloInstruction[]): readonly HloInstruction[] {
  return 'opcode' in xs ? [xs] : xs;
}

function arrayOf(draft: Draft, x: HloInstruction): ArrayShape {
  return isArray(x.shape) ? x.shape : refuse(draft, 'an array');
}
