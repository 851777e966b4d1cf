import { at } from '../numerics/assert.ts';
import type { ElementType } from '../numerics/element-type.ts';
import { type Literal, literal } from '../numerics/literal.ts';
import { type ArrayShape, arrayShape, isArray, type Shape } from '../numerics/shape.ts';
import { type Draft, inferShape, refuse } from './infer.ts';
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

export { windowDimension } from './window.ts';

/*
 * One function per opcode. Each infers the shape of its result; what breaks a rule of the opcode
 * is a PodError 'bad-program'. Meanings: see instruction.ts and XLA's Operation Semantics.
 */

/** Argument `index` of its computation. */
export function parameter(index: number, shape: Shape, name?: string): Parameter {
  return make<Parameter>({ opcode: 'parameter', shape, operands: [], index, name });
}

/** A value that is part of the program. */
export function constant(value: Literal, name?: string): Constant {
  return make<Constant>({ opcode: 'constant', operands: [], value, name });
}

/** A constant without dimensions. */
export function scalar(type: ElementType, value: number): Constant {
  return constant(literal(type, [], [value]));
}

/** An array filled with one value. */
export function full(type: ElementType, dims: readonly number[], value: number): HloInstruction {
  return broadcastScalar(scalar(type, value), dims);
}

/** Counts 0, 1, 2, … along `dimension`, and repeats that along all others. */
export function iota(shape: ArrayShape, dimension: number): Iota {
  return make<Iota>({ opcode: 'iota', shape, operands: [], dimension });
}

/** One of the element-wise operations on one array. The result has the shape of `x`. */
export function unary(opcode: UnaryOpcode, x: HloInstruction): Unary {
  return make<Unary>({ opcode, operands: [x] });
}
/** |x|, element by element. */
export function abs(x: HloInstruction): Unary {
  return unary('abs', x);
}
/** The least integer that is not below x, as a float. */
export function ceil(x: HloInstruction): Unary {
  return unary('ceil', x);
}
/** Cosine of x, which is in radians. */
export function cos(x: HloInstruction): Unary {
  return unary('cosine', x);
}
/** e to the power of x. */
export function exp(x: HloInstruction): Unary {
  return unary('exponential', x);
}
/** e^x − 1, exact near 0. */
export function expm1(x: HloInstruction): Unary {
  return unary('exponential-minus-one', x);
}
/** The greatest integer that is not above x, as a float. */
export function floor(x: HloInstruction): Unary {
  return unary('floor', x);
}
/** Whether x is neither infinite nor NaN, as pred. */
// biome-ignore lint/suspicious/noShadowRestrictedNames: the opcode's name; a module of opcodes has no other use for it.
export function isFinite(x: HloInstruction): Unary {
  return unary('is-finite', x);
}
/** Natural logarithm of x. */
export function log(x: HloInstruction): Unary {
  return unary('log', x);
}
/** Natural logarithm of 1 + x, exact near 0. */
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
/** Complement of every bit; of a pred, its negation. */
export function not(x: HloInstruction): Unary {
  return unary('not', x);
}
/** The nearest integer as a float; a half goes to the even one. */
export function roundNearestEven(x: HloInstruction): Unary {
  return unary('round-nearest-even', x);
}
/** 1 / √x. */
export function rsqrt(x: HloInstruction): Unary {
  return unary('rsqrt', x);
}
/** −1, 0 or 1 by the sign of x; −0 and NaN stay. */
export function sign(x: HloInstruction): Unary {
  return unary('sign', x);
}
/** Sine of x, which is in radians. */
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

/** One of the element-wise operations on two arrays of one shape. */
export function binary(opcode: BinaryOpcode, a: HloInstruction, b: HloInstruction): Binary {
  return make<Binary>({ opcode, operands: [a, b] });
}
/** a + b; of integers, modulo 2^32. */
export function add(a: HloInstruction, b: HloInstruction): Binary {
  return binary('add', a, b);
}
/** a − b. */
export function subtract(a: HloInstruction, b: HloInstruction): Binary {
  return binary('subtract', a, b);
}
/** a · b; of integers, modulo 2^32. */
export function multiply(a: HloInstruction, b: HloInstruction): Binary {
  return binary('multiply', a, b);
}
/** a / b; of integers, rounded toward zero. */
export function divide(a: HloInstruction, b: HloInstruction): Binary {
  return binary('divide', a, b);
}
/** The greater of a and b; NaN if one of them is. */
export function maximum(a: HloInstruction, b: HloInstruction): Binary {
  return binary('maximum', a, b);
}
/** The lesser of a and b; NaN if one of them is. */
export function minimum(a: HloInstruction, b: HloInstruction): Binary {
  return binary('minimum', a, b);
}
/** a to the power of b. */
export function power(a: HloInstruction, b: HloInstruction): Binary {
  return binary('power', a, b);
}
/** a − b · trunc(a / b), with the sign of a. */
export function remainder(a: HloInstruction, b: HloInstruction): Binary {
  return binary('remainder', a, b);
}
/** Bitwise a and b. */
export function and(a: HloInstruction, b: HloInstruction): Binary {
  return binary('and', a, b);
}
/** Bitwise a or b. */
export function or(a: HloInstruction, b: HloInstruction): Binary {
  return binary('or', a, b);
}
/** Bitwise exclusive or of a and b. */
export function xor(a: HloInstruction, b: HloInstruction): Binary {
  return binary('xor', a, b);
}
/** a · 2^b in integers: bits that leave the word are lost. */
export function shiftLeft(a: HloInstruction, b: HloInstruction): Binary {
  return binary('shift-left', a, b);
}
/** a shifted right by b, filled with its sign. */
export function shiftRightArithmetic(a: HloInstruction, b: HloInstruction): Binary {
  return binary('shift-right-arithmetic', a, b);
}
/** a shifted right by b, filled with zeros. */
export function shiftRightLogical(a: HloInstruction, b: HloInstruction): Binary {
  return binary('shift-right-logical', a, b);
}

/** Whether a and b stand in the relation `direction`, element by element, as pred. */
export function compare(
  direction: Compare['direction'],
  a: HloInstruction,
  b: HloInstruction,
): Compare {
  return make<Compare>({ opcode: 'compare', operands: [a, b], direction });
}

/** `onTrue` where p is true, `onFalse` elsewhere. All three have the same dimensions. */
export function select(p: HloInstruction, onTrue: HloInstruction, onFalse: HloInstruction): Select {
  return make<Select>({ opcode: 'select', operands: [p, onTrue, onFalse] });
}

/** x held between `low` and `high`, which are scalars or of the shape of x. */
export function clamp(low: HloInstruction, x: HloInstruction, high: HloInstruction): Clamp {
  return make<Clamp>({ opcode: 'clamp', operands: [low, x, high] });
}

/** The values of x in another element type. */
export function convert(x: HloInstruction, type: ElementType): Convert {
  const draft: Draft<Convert> = { opcode: 'convert', operands: [x] };
  return make<Convert>({ ...draft, shape: arrayShape(type, arrayOf(draft, x).dims) });
}

/** The bits of x read as another element type of the same width. */
export function bitcastConvert(x: HloInstruction, type: ElementType): Convert {
  const draft: Draft<Convert> = { opcode: 'bitcast-convert', operands: [x] };
  return make<Convert>({ ...draft, shape: arrayShape(type, arrayOf(draft, x).dims) });
}

/** Dimension i of `x` becomes dimension `dimensions[i]` of an array of size `dims`. */
export function broadcast(
  x: HloInstruction,
  dims: readonly number[],
  dimensions: readonly number[],
): Broadcast {
  const draft: Draft<Broadcast> = { opcode: 'broadcast', operands: [x], dimensions };
  return make<Broadcast>({ ...draft, shape: arrayShape(arrayOf(draft, x).type, dims) });
}

/** A scalar repeated to `dims`. */
export function broadcastScalar(x: HloInstruction, dims: readonly number[]): Broadcast {
  return broadcast(x, dims, []);
}

/** The elements of x in row-major order, in other dimensions. */
export function reshape(x: HloInstruction, dims: readonly number[]): Reshape {
  const draft: Draft<Reshape> = { opcode: 'reshape', operands: [x] };
  return make<Reshape>({ ...draft, shape: arrayShape(arrayOf(draft, x).type, dims) });
}

/** Dimension d of the result is dimension `permutation[d]` of x. */
export function transpose(x: HloInstruction, permutation: readonly number[]): Transpose {
  return make<Transpose>({ opcode: 'transpose', operands: [x], permutation });
}

/** Strides of 1 unless they are given. */
export function slice(
  x: HloInstruction,
  starts: readonly number[],
  limits: readonly number[],
  strides: readonly number[] = starts.map(() => 1),
): Slice {
  return make<Slice>({ opcode: 'slice', operands: [x], starts, limits, strides });
}

/** Elements added before, after and between those of each dimension. */
export type Padding = Pick<Pad, 'low' | 'high' | 'interior'>;

/** x with `value` around and between its elements. */
export function pad(x: HloInstruction, value: HloInstruction, padding: Padding): Pad {
  const { low, high, interior } = padding;
  return make<Pad>({ opcode: 'pad', operands: [x, value], low, high, interior });
}

/** Arrays one after another along `dimension`; all other dimensions are equal. */
export function concatenate(xs: readonly HloInstruction[], dimension: number): Concatenate {
  return make<Concatenate>({ opcode: 'concatenate', operands: xs, dimension });
}

/** x with the order of elements turned around along `dimensions`. */
export function reverse(x: HloInstruction, dimensions: readonly number[]): Reverse {
  return make<Reverse>({ opcode: 'reverse', operands: [x], dimensions });
}

/**
 * Sums of products over the contracting dimensions; dimensions of the result: batch, free of lhs,
 * free of rhs.
 */
export function dot(
  lhs: HloInstruction,
  rhs: HloInstruction,
  dimensions: DotDimensions,
  precision: Precision = 'default',
): Dot {
  const { lhsBatch, rhsBatch, lhsContracting, rhsContracting } = dimensions;
  const roles = { lhsBatch, rhsBatch, lhsContracting, rhsContracting };
  return make<Dot>({ opcode: 'dot', operands: [lhs, rhs], ...roles, precision });
}

/** [m,k] × [k,n] → [m,n]. */
export function matmul(lhs: HloInstruction, rhs: HloInstruction, precision?: Precision): Dot {
  const plain = { lhsBatch: [], rhsBatch: [], lhsContracting: [1], rhsContracting: [0] };
  return dot(lhs, rhs, plain, precision);
}

/** What a convolution is made of; groups are 1 and precision `default` unless given. */
export type ConvolutionOptions = Pick<Convolution, 'window' | 'dimensions'> &
  Partial<Pick<Convolution, 'featureGroupCount' | 'batchGroupCount' | 'precision'>>;

/** Products of a kernel with every window of the input, summed over window and input features. */
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
  });
}

/** One input and its initial value, or n of each. */
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

/** The largest elements; of nothing: the least value of the type. */
export function reduceMax(x: HloInstruction, dimensions: readonly number[]): Reduce {
  const { type } = arrayOf({ opcode: 'tuple', operands: [x] }, x);
  return reduce(x, scalar(type, leastOf(type)), dimensions, maximizer(type));
}

/** The value that `maximum` leaves every other unchanged by. */
export function leastOf(type: ElementType): number {
  if (type === 's32') return -(2 ** 31);
  return type === 'u32' || type === 'pred' ? 0 : -Infinity;
}

/** The elements of every window of the padded array joined by `body`, from `init` on. */
export function reduceWindow(
  x: HloInstruction,
  init: HloInstruction,
  window: readonly WindowDimension[],
  body: HloComputation,
): ReduceWindow {
  return make<ReduceWindow>({ opcode: 'reduce-window', operands: [x, init], window, body });
}

/**
 * Each element of `source` goes to the element of its window that `select` picks; `scatter` joins
 * sources that meet.
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

/** `bits` is the shape of the random bits, u32. */
export function rngBitGenerator(state: HloInstruction, bits: ArrayShape): RngBitGenerator {
  const shape: Shape = { type: 'tuple', elements: [arrayShape('u32', [4]), bits] };
  const opcode = 'rng-bit-generator';
  return make<RngBitGenerator>({ opcode, shape, operands: [state], algorithm: 'rng_philox' });
}

/** Sums over all replicas unless another body is given. */
export function allReduce(
  operands: HloInstruction | readonly HloInstruction[],
  body?: HloComputation,
): AllReduce {
  const list = listOf(operands);
  const first = list[0];
  const opcode = 'all-reduce';
  if (first === undefined) {
    return refuse({ opcode, operands: [], body: adder('f32') }, 'at least one operand');
  }
  const { type } = arrayOf({ opcode: 'tuple', operands: list }, first);
  return make<AllReduce>({ opcode, operands: list, body: body ?? adder(type) });
}

/** A token that comes after all of `tokens`. */
export function afterAll(...tokens: readonly HloInstruction[]): AfterAll {
  return make<AfterAll>({ opcode: 'after-all', operands: tokens });
}

/** `data` is the shape of what the host sends: an array or a tuple of arrays. */
export function infeed(token: HloInstruction, data: Shape): Infeed {
  const shape: Shape = { type: 'tuple', elements: [data, { type: 'token' }] };
  return make<Infeed>({ opcode: 'infeed', shape, operands: [token] });
}

/** Sends data to the host; gives a token. */
export function outfeed(data: HloInstruction, token: HloInstruction): Outfeed {
  return make<Outfeed>({ opcode: 'outfeed', operands: [data, token] });
}

/** Several values as one. */
export function tuple(elements: readonly HloInstruction[]): Tuple {
  return make<Tuple>({ opcode: 'tuple', operands: elements });
}

/** Element `index` of a tuple. */
export function getTupleElement(x: HloInstruction, index: number): GetTupleElement {
  return make<GetTupleElement>({ opcode: 'get-tuple-element', operands: [x], index });
}

/** Runs `body` as one loop of the vector unit. */
export function fusion(
  kind: Fusion['kind'],
  operands: readonly HloInstruction[],
  body: HloComputation,
): Fusion {
  return make<Fusion>({ opcode: 'fusion', operands, kind, body });
}

/** The same instruction under a name, a path such as `conv2/kernel`. */
export function named<T extends HloInstruction>(x: T, name: string): T {
  return { ...x, name };
}

/** A function of its parameters: the value of `root`. */
export function computation(
  name: string,
  parameters: readonly Parameter[],
  root: HloInstruction,
): HloComputation {
  return { name, parameters, root };
}

/** The entry computation is named `main`. */
export function module(
  name: string,
  parameters: readonly Parameter[],
  root: HloInstruction,
  aliases: readonly Alias[] = [],
): HloModule {
  return { name, entry: computation('main', parameters, root), aliases };
}

/** (a, b) → a + b on scalars. The same object for the same type. */
export function adder(type: ElementType): HloComputation {
  return remembered(`add_${type}`, type, add);
}
/** (a, b) → maximum(a, b) on scalars. */
export function maximizer(type: ElementType): HloComputation {
  return remembered(`max_${type}`, type, maximum);
}
/** (a, b) → a ≥ b on scalars. */
export function greaterOrEqual(type: ElementType): HloComputation {
  return remembered(`ge_${type}`, type, (a, b) => compare('GE', a, b));
}

const scalarComputations = new Map<string, HloComputation>();

function remembered(
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

/** An instruction with the shape its operands and attributes imply. */
export function make<T extends HloInstruction>(draft: Draft<T>): T {
  // The type system cannot see that Draft<T> and a shape make a T, for a T that is not known yet.
  const open = draft as unknown as Draft;
  return { ...open, shape: inferShape(open) } as unknown as T;
}

function listOf(xs: HloInstruction | readonly HloInstruction[]): readonly HloInstruction[] {
  return 'opcode' in xs ? [xs] : xs;
}

function arrayOf(draft: Draft, x: HloInstruction): ArrayShape {
  return isArray(x.shape) ? x.shape : refuse(draft, 'an array');
}
