import {
  broadcast,
  broadcastScalar,
  computation,
  constant,
  pad,
  reshape,
  slice,
  transpose,
} from '../../hlo/build.ts';
import { evaluateComputation } from '../../hlo/evaluate.ts';
import type {
  Binary,
  Broadcast,
  Constant,
  Convert,
  HloInstruction,
  HloModule,
  Opcode,
  Pad,
  Reshape,
  Reverse,
  Select,
  Slice,
  Transpose,
  Unary,
} from '../../hlo/instruction.ts';
import { familyOf } from '../../hlo/ops.ts';
import { makesDiffer } from '../../hlo/replicas.ts';
import { mapInstructions, withOperands } from '../../hlo/traverse.ts';
import { at } from '../../numerics/assert.ts';
import { type ElementType, elementTypes, type Scalar } from '../../numerics/element-type.ts';
import { bytesOf, type Literal, literal, scalarAt } from '../../numerics/literal.ts';
import {
  type ArrayShape,
  elementCount,
  isArray,
  sameDims,
  sameShape,
} from '../../numerics/shape.ts';

/**
 * Simplifies instructions by algebra and folds constants. A rule applies only if every bit of the
 * result stays the same, including −0, NaN and rounding. Therefore x + 0 is kept if x is a float,
 * because −0 + 0 is +0. Also x · 1 is kept if x is a bf16, because bf16 arithmetic replaces
 * subnormals by zeros.
 */
export function simplify(module: HloModule): HloModule {
  const known = new Set<HloInstruction>();
  const entry = mapInstructions(module.entry, (it, operands) => {
    const before = withOperands(it, operands);
    const after = simplifyFully(before);
    const named = known.has(after) ? after : withName(after, it.name);
    known.add(named);
    return named;
  });
  return { ...module, entry };
}

/** Applies rules to an instruction until no rule fits any more. */
function simplifyFully(it: HloInstruction): HloInstruction {
  let now = it;
  for (let next = simplifyOnce(now); next !== now; next = simplifyOnce(now)) now = next;
  return now;
}

/**
 * Returns a copy of `it` with the name `name` if `it` has no name. Otherwise returns `it` itself.
 */
function withName(it: HloInstruction, name: string | undefined): HloInstruction {
  return it.name !== undefined || name === undefined ? it : { ...it, name };
}

/** Applies the first rule that fits. Returns the instruction itself if no rule fits. */
function simplifyOnce(it: HloInstruction): HloInstruction {
  return foldConstants(it) ?? hoistBroadcast(it) ?? simpler(it) ?? it;
}

function simpler(it: HloInstruction): HloInstruction | undefined {
  switch (it.opcode) {
    case 'constant':
      return splat(it);
    case 'get-tuple-element': {
      const source = at(it.operands, 0);
      return source.opcode === 'tuple' ? at(source.operands, it.index) : undefined;
    }
    case 'reshape':
      return simplerReshape(it);
    case 'transpose':
      return simplerTranspose(it);
    case 'broadcast':
      return simplerBroadcast(it);
    case 'slice':
      return simplerSlice(it);
    case 'pad':
      return simplerPad(it);
    case 'reverse':
      return simplerReverse(it);
    case 'concatenate':
      return simplerConcatenate(it);
    case 'select':
      return simplerSelect(it);
    case 'convert':
    case 'bitcast-convert':
      return simplerConvert(it);
    case 'negate':
    case 'not':
    case 'abs':
      return simplerUnary(it);
    case 'maximum':
    case 'minimum':
    case 'and':
    case 'or':
      return idempotent(it) ?? withNeutral(it);
    case 'add':
    case 'subtract':
    case 'multiply':
    case 'divide':
    case 'xor':
    case 'shift-left':
    case 'shift-right-arithmetic':
    case 'shift-right-logical':
      return withNeutral(it);
    default:
      return undefined;
  }
}

/** Constants are folded only if the result and each operand have at most this many elements. */
const foldedElementsMax = 64;

function foldConstants(it: HloInstruction): HloInstruction | undefined {
  if (!isFoldable(it) || !isArray(it.shape)) return undefined;
  const small = [it, ...it.operands].every((x) => isSmall(x));
  if (!small || !it.operands.every(isConstant) || makesDiffer(it)) return undefined;
  return constant(arrayValue(evaluateComputation(computation('folded', [], it), [])));
}

/**
 * True if an instruction becomes a constant when its operands are constants. An iota or a broadcast
 * stays, because it is shorter than the constant.
 */
function isFoldable(it: HloInstruction): boolean {
  const family = familyOf(it);
  if (family === 'rearranging') return it.opcode !== 'iota' && it.opcode !== 'broadcast';
  return family === 'elementwise' || it.opcode === 'reduce';
}

function isSmall({ shape }: HloInstruction): boolean {
  return isArray(shape) && elementCount(shape) <= foldedElementsMax;
}

function arrayValue(value: ReturnType<typeof evaluateComputation>): Literal {
  return value as Literal;
}

/**
 * Replaces an element-wise operation if every operand is the broadcast of a scalar. The replacement
 * is the broadcast of the operation on the scalars.
 */
function hoistBroadcast(it: HloInstruction): HloInstruction | undefined {
  // The bounds of a clamp may be scalars, so it has no one shape to be computed in.
  if (familyOf(it) !== 'elementwise' || it.opcode === 'clamp') return;
  if (!isArray(it.shape) || it.shape.dims.length === 0) return;
  const { dims } = it.shape;
  // A bitcast between elements of different widths has other dimensions than its operand.
  if (!it.operands.every(({ shape }) => isArray(shape) && sameDims(shape.dims, dims))) return;
  const values = it.operands.map(spreadValue);
  if (!values.every((x) => x !== undefined)) return undefined;
  const { type } = it.shape;
  const retyped = { ...it, name: undefined, shape: { type, dims: [] } } as HloInstruction;
  return broadcastScalar(simplifyFully(withOperands(retyped, values)), it.shape.dims);
}

/** Returns the scalar if `it` is the broadcast of a scalar; otherwise returns undefined. */
function spreadValue(it: HloInstruction): HloInstruction | undefined {
  const scalar = it.opcode === 'broadcast' && it.dimensions.length === 0;
  return scalar ? at(it.operands, 0) : undefined;
}

/** Turns a constant array whose elements are all equal into the broadcast of a scalar. */
function splat(it: Constant): HloInstruction | undefined {
  const { data, shape } = it.value;
  if (shape.dims.length === 0 || data.length === 0) return undefined;
  const words = bytesOf(it.value);
  const width = data.BYTES_PER_ELEMENT;
  for (let i = width; i < words.length; i++) if (words[i] !== words[i - width]) return undefined;
  return broadcastScalar(
    constant({ shape: { type: shape.type, dims: [] }, data: data.slice(0, 1) }),
    shape.dims,
  );
}

function simplerReshape(it: Reshape): HloInstruction | undefined {
  const x = at(it.operands, 0);
  if (sameShape(x.shape, it.shape)) return x;
  if (x.opcode === 'reshape') return reshape(at(x.operands, 0), it.shape.dims);
  const value = spreadValue(x);
  return value && broadcastScalar(value, it.shape.dims);
}

function simplerTranspose(it: Transpose): HloInstruction | undefined {
  const x = at(it.operands, 0);
  const { permutation } = it;
  if (permutation.every((d, i) => d === i)) return x;
  if (x.opcode === 'transpose') {
    return transpose(
      at(x.operands, 0),
      permutation.map((d) => at(x.permutation, d)),
    );
  }
  const value = spreadValue(x);
  if (value !== undefined) return broadcastScalar(value, it.shape.dims);
  const { dims } = x.shape as ArrayShape;
  const moved = permutation.filter((d) => dims[d] !== 1);
  const inOrder = moved.every((d, i) => i === 0 || at(moved, i - 1) < d);
  return inOrder ? reshape(x, it.shape.dims) : undefined;
}

function simplerBroadcast(it: Broadcast): HloInstruction | undefined {
  const x = at(it.operands, 0);
  if (sameShape(x.shape, it.shape) && it.dimensions.every((d, i) => d === i)) return x;
  if (x.opcode !== 'broadcast') return undefined;
  return broadcast(
    at(x.operands, 0),
    it.shape.dims,
    x.dimensions.map((d) => at(it.dimensions, d)),
  );
}

function simplerSlice(it: Slice): HloInstruction | undefined {
  const x = at(it.operands, 0);
  if (sameShape(x.shape, it.shape)) return x;
  const value = spreadValue(x);
  if (value !== undefined) return broadcastScalar(value, it.shape.dims);
  if (x.opcode !== 'slice') return undefined;
  const starts = it.starts.map((start, d) => at(x.starts, d) + start * at(x.strides, d));
  const strides = it.strides.map((stride, d) => stride * at(x.strides, d));
  const limits = it.shape.dims.map((size, d) => {
    const reach = size === 0 ? 0 : (size - 1) * at(strides, d) + 1;
    return at(starts, d) + reach;
  });
  const inside = starts.every(
    (start, d) => start <= at((at(x.operands, 0).shape as ArrayShape).dims, d),
  );
  return inside ? slice(at(x.operands, 0), starts, limits, strides) : undefined;
}

function simplerPad(it: Pad): HloInstruction | undefined {
  const x = at(it.operands, 0);
  const { dims } = x.shape as ArrayShape;
  const none = it.low.every(
    (n, d) => n === 0 && it.high[d] === 0 && (it.interior[d] === 0 || at(dims, d) < 2),
  );
  if (none) return x;
  const interior = it.interior.map((n, d) => (at(dims, d) < 2 ? 0 : n));
  const idle = interior.some((n, d) => n !== it.interior[d]);
  return idle ? pad(x, at(it.operands, 1), { ...it, interior }) : undefined;
}

function simplerReverse(it: Reverse): HloInstruction | undefined {
  const x = at(it.operands, 0);
  const moved = it.dimensions.filter((d) => at(it.shape.dims, d) > 1);
  if (moved.length === 0) return x;
  if (moved.length < it.dimensions.length) return { ...it, dimensions: moved };
  const value = spreadValue(x);
  if (value !== undefined) return x;
  const undone = x.opcode === 'reverse' && sameSet(x.dimensions, it.dimensions);
  return undone ? at(x.operands, 0) : undefined;
}

function sameSet(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((n) => b.includes(n));
}

function simplerConcatenate(it: HloInstruction): HloInstruction | undefined {
  const filled = it.operands.filter((x) => elementCount(x.shape as ArrayShape) > 0);
  if (filled.length === 1 || it.operands.length === 1) return filled[0] ?? at(it.operands, 0);
  return filled.length < it.operands.length && filled.length > 0
    ? withOperands(it, filled)
    : undefined;
}

function simplerSelect(it: Select): HloInstruction | undefined {
  const [predicate, onTrue, onFalse] = [0, 1, 2].map((i) => at(it.operands, i));
  if (onTrue === onFalse) return onTrue;
  const value = constantValue(predicate!);
  if (value === undefined) return undefined;
  return Number(value) === 0 ? onFalse : onTrue;
}

function simplerConvert(it: Convert): HloInstruction | undefined {
  const x = at(it.operands, 0);
  const bits = it.opcode === 'bitcast-convert';
  if ((bits || isExact(it.shape.type)) && sameShape(x.shape, it.shape)) return x;
  if (!bits || x.opcode !== 'bitcast-convert') return undefined;
  const [source] = x.operands;
  const isAsWide =
    source !== undefined && isArray(source.shape) && sameDims(source.shape.dims, it.shape.dims);
  return isAsWide ? withOperands(it, [source]) : undefined;
}

function simplerUnary(it: Unary): HloInstruction | undefined {
  const x = at(it.operands, 0);
  if (!isExact(it.shape.type)) return undefined;
  if (it.opcode === 'abs') {
    if (x.opcode === 'abs') return x;
    return x.opcode === 'negate' ? withOperands(it, x.operands) : undefined;
  }
  return x.opcode === it.opcode ? at(x.operands, 0) : undefined;
}

function idempotent(it: Binary): HloInstruction | undefined {
  const [a, b] = [at(it.operands, 0), at(it.operands, 1)];
  return a === b && isExact(it.shape.type) ? a : undefined;
}

/**
 * True if an operation that returns its operand keeps all bits. Operations on short floats may
 * change bits, because they round: a bf16 loses its subnormals, and a NaN its payload.
 */
function isExact(type: ElementType): boolean {
  return elementTypes[type].kind !== 'float' || type === 'f32';
}

/**
 * Returns the operand x if the other operand of `it` is a constant that leaves every x unchanged,
 * as in x · 1 or 1 · x. Otherwise returns undefined.
 */
function withNeutral(it: Binary): HloInstruction | undefined {
  const { type } = it.shape;
  if (!isExact(type)) return undefined;
  const [a, b] = [at(it.operands, 0), at(it.operands, 1)];
  const right = neutral(it.opcode, type);
  if (right === undefined) return undefined;
  if (Object.is(constantValue(b), right)) return a;
  return commutes.has(it.opcode) && Object.is(constantValue(a), right) ? b : undefined;
}

const commutes: ReadonlySet<Opcode> = new Set<Opcode>(['add', 'multiply', 'and', 'or', 'xor']);

/**
 * Returns the constant n for which x ∘ n is x to the bit, for every x, where ∘ is the operation of
 * `opcode`. Returns undefined if there is no such constant.
 */
function neutral(opcode: Opcode, type: ElementType): Scalar | undefined {
  const of = (value: number): Scalar => scalarAt(literal(type, [], [value]), 0);
  switch (opcode) {
    case 'add':
      return type === 'f32' ? -0 : of(0);
    case 'multiply':
    case 'divide':
      return of(1);
    case 'and':
      return of(type === 'pred' ? 1 : -1);
    case 'subtract':
    case 'or':
    case 'xor':
    case 'shift-left':
    case 'shift-right-arithmetic':
    case 'shift-right-logical':
      return of(0);
    default:
      return undefined;
  }
}

/**
 * Returns the value of a constant scalar, or of a broadcast constant scalar. Returns undefined for
 * any other instruction.
 */
function constantValue(it: HloInstruction): Scalar | undefined {
  const source = spreadValue(it) ?? it;
  const scalar = isConstant(source) && source.shape.dims.length === 0;
  return scalar ? scalarAt(source.value, 0) : undefined;
}

function isConstant(it: HloInstruction): it is Constant {
  return it.opcode === 'constant';
}
