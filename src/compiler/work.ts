import type { HloComputation, HloInstruction, InstructionOf, Opcode } from '../hlo/instruction.ts';
import { postOrder } from '../hlo/traverse.ts';
import { tripCount } from '../hlo/trip-count.ts';
import { at } from '../numerics/assert.ts';
import { elementCount, isArray } from '../numerics/shape.ts';

/**
 * Work of an opcode on the vector unit, for the cost model. `flops` returns how many operations one
 * core executes for an instruction. `none` is the reason why an opcode executes no operations
 * there.
 */
export type Work<O extends Opcode> =
  | { readonly flops: (it: InstructionOf<O>) => number }
  | { readonly none: string };

const perResult = { flops: elementsOf };
const perInput = { flops: (it: HloInstruction): number => elementsOf(at(it.operands, 0)) };
const perCall = {
  flops: ({ body }: { readonly body: HloComputation }): number => flopsOfBody(body),
};
const moves = { none: 'moves elements, which the bytes read and written stand for' };
const converts = { none: 'changes the form of elements as they are loaded and stored' };
const names = { none: 'only names values' };
const matmul = { none: 'runs on the MXU, and its work follows from the sizes of the matmul' };
const exchange = { none: 'its work follows from its bytes and from the torus' };
const transfer = { none: 'moves data of the host, and its work follows from the bytes' };

/**
 * The work of every opcode. An arithmetic instruction counts one operation for each element of its
 * result. A reduction counts one operation for each element of its input. A loop whose trips are
 * not known counts as one trip, and a conditional as its most expensive branch.
 */
export const work: { readonly [O in Opcode]: Work<O> } = {
  parameter: names,
  constant: names,
  iota: { none: 'takes the counter of a loop, which is there anyway' },

  abs: perResult,
  ceil: perResult,
  cosine: perResult,
  exponential: perResult,
  'exponential-minus-one': perResult,
  floor: perResult,
  'is-finite': perResult,
  log: perResult,
  'log-plus-one': perResult,
  logistic: perResult,
  negate: perResult,
  not: perResult,
  'round-nearest-even': perResult,
  rsqrt: perResult,
  sign: perResult,
  sine: perResult,
  sqrt: perResult,
  tanh: perResult,
  cbrt: perResult,
  tan: perResult,
  erf: perResult,
  'round-nearest-afz': perResult,
  popcnt: perResult,
  'count-leading-zeros': perResult,

  add: perResult,
  subtract: perResult,
  multiply: perResult,
  divide: perResult,
  maximum: perResult,
  minimum: perResult,
  power: perResult,
  remainder: perResult,
  and: perResult,
  or: perResult,
  xor: perResult,
  'shift-left': perResult,
  'shift-right-arithmetic': perResult,
  'shift-right-logical': perResult,
  atan2: perResult,

  compare: perResult,
  select: perResult,
  clamp: perResult,
  convert: converts,
  'bitcast-convert': converts,
  'reduce-precision': perResult,

  broadcast: moves,
  reshape: moves,
  transpose: moves,
  slice: moves,
  pad: moves,
  concatenate: moves,
  reverse: moves,

  dot: matmul,
  convolution: matmul,
  reduce: perInput,
  'reduce-window': perInput,
  'select-and-scatter': perInput,

  'rng-bit-generator': { none: 'its work follows from the number of random bits' },
  'all-reduce': { none: 'its work follows from the bytes of its bucket and from the torus' },
  'all-gather': exchange,
  'reduce-scatter': exchange,
  'all-to-all': exchange,
  'collective-permute': exchange,
  'collective-broadcast': exchange,
  'after-all': names,
  infeed: transfer,
  outfeed: transfer,
  tuple: names,
  'get-tuple-element': names,
  fusion: perCall,

  'dynamic-slice': moves,
  'dynamic-update-slice': moves,
  gather: moves,
  scatter: { flops: ({ operands, body }) => elementsOf(operands.at(-1)!) * flopsOfBody(body) },

  sort: {
    flops: ({ operands: [x], dimension, body }) => comparisons(x!, dimension) * flopsOfBody(body),
  },
  topk: { flops: ({ operands: [x] }) => comparisons(x!, -1) },

  call: perCall,
  conditional: { flops: ({ branches }) => Math.max(...branches.map(flopsOfBody)) },
  while: {
    flops: (it) => (tripCount(it) ?? 1) * (flopsOfBody(it.condition) + flopsOfBody(it.body)),
  },
  'opt-barrier': names,
  map: { flops: (it) => elementsOf(it) * flopsOfBody(it.body) },

  'batch-norm-training': perElement(6),
  'batch-norm-inference': perElement(3),
  'batch-norm-grad': perElement(8),
  cholesky: { flops: (it) => Math.ceil((elementsOf(it) * (it.shape.dims.at(-1) ?? 0)) / 3) },
  'triangular-solve': {
    flops: (it) => elementsOf(it) * (it.shape.dims.at(it.isLeftSide ? -2 : -1) ?? 0),
  },
  'stochastic-convert': perResult,
  'replica-id': names,
  'partition-id': names,
};

/** Work of `count` operations for each element of the first operand. */
function perElement(count: number): { flops: (it: HloInstruction) => number } {
  return { flops: (it) => count * perInput.flops(it) };
}

/** Returns how many operations an instruction executes on the vector unit of one core. */
export function flopsOf(it: HloInstruction): number {
  const entry: Work<never> = work[it.opcode];
  return 'flops' in entry ? entry.flops(it as never) : 0;
}

/** Returns how many operations one run of a computation executes. */
function flopsOfBody({ root }: HloComputation): number {
  return postOrder(root).reduce((sum, it) => sum + flopsOf(it), 0);
}

/**
 * Returns how many comparisons a sort of x along a dimension makes: for each element, one in each
 * merge. Dimension −1 is the last one.
 */
function comparisons(x: HloInstruction, dimension: number): number {
  const line = isArray(x.shape) ? (x.shape.dims.at(dimension) ?? 1) : 1;
  return elementsOf(x) * Math.ceil(Math.log2(Math.max(1, line)));
}

function elementsOf({ shape }: HloInstruction): number {
  return isArray(shape) ? elementCount(shape) : 0;
}
