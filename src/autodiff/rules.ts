import {
  abs,
  add,
  and,
  compare,
  cos,
  divide,
  exp,
  floor,
  log,
  maximum,
  multiply,
  negate,
  power,
  reducePrecision,
  select,
  sign,
  sin,
  subtract,
} from '../hlo/build.ts';
import type { Binary, Clamp, Compare, HloInstruction, Opcode, Unary } from '../hlo/instruction.ts';
import {
  allGatherRule,
  allReduceRule,
  allToAllRule,
  collectivePermuteRule,
  reduceScatterRule,
} from './collective.ts';
import { convolutionRule, dotRule } from './contraction.ts';
import { callRule, conditionalRule, optBarrierRule, scalarMapRule } from './control.ts';
import { filled, like } from './fill.ts';
import { gatherRule, scatterRule } from './gather.ts';
import { dynamicSliceRule, dynamicUpdateSliceRule } from './indexed.ts';
import { choleskyRule, triangularSolveRule } from './linear-algebra.ts';
import { batchNormRule, batchNormTrainingRule } from './normalization.ts';
import { sortRule, topkRule } from './ordering.ts';
import { reduceRule, reduceWindowRule, selectAndScatterRule } from './reduction.ts';
import { type Contribution, type Derivative, operand, toOperands } from './rule.ts';
import {
  broadcastRule,
  concatenateRule,
  convertRule,
  padRule,
  reshapeRule,
  reverseRule,
  sliceRule,
  sumToScalar,
  transposeRule,
} from './shape.ts';
import { getTupleElementRule, tupleRule } from './tuple.ts';
import { whileRule } from './while.ts';

const steps = { zero: 'constant between its steps' };
const bits = { zero: 'works on bits, which have no derivative' };
const leaf = { zero: 'has no operands' };

/**
 * The derivative of every opcode. In the functions below, `ct` is the cotangent of the result and
 * `y` is the result. `x` is the operand of a unary opcode; `a` and `b` are the operands of a binary
 * opcode.
 */
export const rules: { readonly [O in Opcode]: Derivative<O> } = {
  parameter: leaf,
  constant: leaf,
  iota: leaf,

  abs: unaryRule((ct, x) => multiply(ct, sign(x))),
  ceil: steps,
  cosine: unaryRule((ct, x) => negate(multiply(ct, sin(x)))),
  exponential: unaryRule((ct, _, y) => multiply(ct, y)),
  'exponential-minus-one': unaryRule((ct, _, y) => multiply(ct, add(y, filled(y, 1)))),
  floor: steps,
  'is-finite': steps,
  log: unaryRule((ct, x) => divide(ct, x)),
  'log-plus-one': unaryRule((ct, x) => divide(ct, add(x, filled(x, 1)))),
  logistic: unaryRule((ct, _, y) => multiply(ct, multiply(y, subtract(filled(y, 1), y)))),
  negate: unaryRule((ct) => negate(ct)),
  not: bits,
  'round-nearest-even': steps,
  rsqrt: unaryRule((ct, x, y) => multiply(ct, multiply(filled(y, -0.5), divide(y, x)))),
  sign: steps,
  sine: unaryRule((ct, x) => multiply(ct, cos(x))),
  sqrt: unaryRule((ct, _, y) => multiply(ct, divide(filled(y, 0.5), y))),
  tanh: unaryRule((ct, _, y) => multiply(ct, subtract(filled(y, 1), multiply(y, y)))),
  cbrt: unaryRule((ct, _, y) => divide(ct, multiply(filled(y, 3), multiply(y, y)))),
  tan: unaryRule((ct, _, y) => multiply(ct, add(multiply(y, y), filled(y, 1)))),
  erf: unaryRule(erfRule),
  'round-nearest-afz': steps,
  popcnt: bits,
  'count-leading-zeros': bits,

  add: binaryRule(
    (ct) => ct,
    (ct) => ct,
  ),
  subtract: binaryRule(
    (ct) => ct,
    (ct) => negate(ct),
  ),
  multiply: binaryRule(
    (ct, _, b) => multiply(ct, b),
    (ct, a) => multiply(ct, a),
  ),
  divide: binaryRule(
    (ct, _, b) => divide(ct, b),
    (ct, _, b, y) => negate(multiply(ct, divide(y, b))),
  ),
  maximum: { rule: (it, ct) => bestOfTwo(it, ct, 'GT') },
  minimum: { rule: (it, ct) => bestOfTwo(it, ct, 'LT') },
  power: binaryRule(powerByBase, powerByExponent),
  remainder: binaryRule(
    (ct) => ct,
    (ct, a, b) => negate(multiply(ct, truncate(divide(a, b)))),
  ),
  and: bits,
  or: bits,
  xor: bits,
  'shift-left': bits,
  'shift-right-arithmetic': bits,
  'shift-right-logical': bits,
  atan2: binaryRule(
    (ct, y, x) => multiply(ct, divide(x, squaredRadius(y, x))),
    (ct, y, x) => negate(multiply(ct, divide(y, squaredRadius(y, x)))),
  ),

  compare: steps,
  select: {
    rule: (it, ct) => {
      const zero = filled(ct, 0);
      const onTrue = operand(it, 0);
      return toOperands(
        it,
        undefined,
        () => select(onTrue, ct, zero),
        () => select(onTrue, zero, ct),
      );
    },
  },
  clamp: { rule: clampRule },
  convert: { rule: convertRule },
  'bitcast-convert': bits,
  'reduce-precision': { rule: (it, ct) => toOperands(it, () => reducePrecision(ct, it)) },

  broadcast: { rule: broadcastRule },
  reshape: { rule: reshapeRule },
  transpose: { rule: transposeRule },
  slice: { rule: sliceRule },
  pad: { rule: padRule },
  concatenate: { rule: concatenateRule },
  reverse: { rule: reverseRule },

  dot: { rule: dotRule },
  convolution: { rule: convolutionRule },
  reduce: { rule: reduceRule },
  'reduce-window': { rule: reduceWindowRule },
  'select-and-scatter': { rule: selectAndScatterRule },

  'rng-bit-generator': bits,
  'all-reduce': { rule: allReduceRule },
  'all-gather': { rule: allGatherRule },
  'reduce-scatter': { rule: reduceScatterRule },
  'all-to-all': { rule: allToAllRule },
  'collective-permute': { rule: collectivePermuteRule },
  'collective-broadcast': {
    none: 'only the first replica of a group would receive a cotangent',
  },
  'after-all': { none: 'a token holds no data' },
  infeed: { none: 'infeed data does not depend on the program' },
  outfeed: { none: 'outfeed data is not part of a loss' },
  tuple: { leaves: tupleRule },
  'get-tuple-element': { leaves: getTupleElementRule },
  fusion: { none: 'fusions are made by the compiler, after derivatives' },

  'dynamic-slice': { rule: dynamicSliceRule },
  'dynamic-update-slice': { rule: dynamicUpdateSliceRule },
  gather: { rule: gatherRule },
  scatter: { rule: scatterRule },

  sort: { leaves: sortRule },
  topk: { leaves: topkRule },

  call: { leaves: callRule },
  conditional: { leaves: conditionalRule },
  while: { leaves: whileRule },
  'opt-barrier': { leaves: optBarrierRule },
  map: { leaves: scalarMapRule },

  'batch-norm-training': { leaves: batchNormTrainingRule },
  'batch-norm-inference': { leaves: batchNormRule },
  'batch-norm-grad': { leaves: batchNormRule },
  cholesky: { rule: choleskyRule },
  'triangular-solve': { rule: triangularSolveRule },
  'stochastic-convert': { rule: convertRule },
  'replica-id': leaf,
  'partition-id': leaf,
};

type UnaryDerivative = (ct: HloInstruction, x: HloInstruction, y: HloInstruction) => HloInstruction;

function unaryRule(derivative: UnaryDerivative): {
  rule: (it: Unary, ct: HloInstruction) => Contribution[];
} {
  return { rule: (it, ct) => toOperands(it, () => derivative(ct, operand(it, 0), it)) };
}

type BinaryDerivative = (
  ct: HloInstruction,
  a: HloInstruction,
  b: HloInstruction,
  y: HloInstruction,
) => HloInstruction;

function binaryRule(
  byLeft: BinaryDerivative,
  byRight: BinaryDerivative,
): { rule: (it: Binary, ct: HloInstruction) => Contribution[] } {
  return {
    rule: (it, ct) => {
      const [a, b] = [operand(it, 0), operand(it, 1)];
      return toOperands(
        it,
        () => byLeft(ct, a, b, it),
        () => byRight(ct, a, b, it),
      );
    },
  };
}

/**
 * Derivative of the maximum or minimum of two operands. The operand that equals the result receives
 * the cotangent. If both operands equal the result (a tie), each receives half [JAX].
 *
 * Exception: if one operand is a constant, the constant receives the whole cotangent of a tie, as
 * in jax.nn.relu. The variable operand (the input of a ReLU) then receives the cotangent only where
 * the result differs from the constant. To find these elements, the rule compares the result with
 * the constant and does not read the variable operand. So the variable operand need not stay in
 * memory.
 */
function bestOfTwo(it: Binary, ct: HloInstruction, wins: Compare['direction']): Contribution[] {
  const [a, b] = [operand(it, 0), operand(it, 1)];
  const zero = filled(ct, 0);
  if (isConstant(a) || isConstant(b)) {
    const changed = compare(wins, it, isConstant(b) ? b : a);
    const toOther = () => select(changed, ct, zero);
    const toConstant = () => select(changed, zero, ct);
    return isConstant(b)
      ? toOperands(it, toOther, toConstant)
      : toOperands(it, toConstant, toOther);
  }
  return toOperands(
    it,
    () => multiply(ct, shareOfWinner(wins, a, b)),
    () => multiply(ct, shareOfWinner(wins, b, a)),
  );
}

function isConstant(it: HloInstruction): boolean {
  return (it.opcode === 'broadcast' ? operand(it, 0) : it).opcode === 'constant';
}

/**
 * Returns the share of the cotangent that operand `a` receives from the maximum or minimum of `a`
 * and `b`: 1 where only `a` equals the result, 0.5 where `a` equals `b`, 0 elsewhere. `wins` is the
 * comparison of `a` with `b` that is true where the share is 1: GT for a maximum, LT for a minimum.
 */
function shareOfWinner(
  wins: Compare['direction'],
  a: HloInstruction,
  b: HloInstruction,
): HloInstruction {
  const tie = select(compare('EQ', a, b), filled(a, 0.5), filled(a, 0));
  return select(compare(wins, a, b), filled(a, 1), tie);
}

/**
 * Returns the cotangent of the base a of a^b: ct·b·a^(b-1). Where b is 0 the cotangent is 0, even
 * at a = 0, where the formula alone would give 0·∞ = NaN.
 */
function powerByBase(ct: HloInstruction, a: HloInstruction, b: HloInstruction): HloInstruction {
  const flat = compare('EQ', b, filled(b, 0));
  const exponent = select(flat, filled(b, 1), subtract(b, filled(b, 1)));
  return multiply(ct, multiply(b, power(a, exponent)));
}

/** Returns the cotangent of the exponent b of y = a^b: ct·y·log a, and 0 where a is 0. */
function powerByExponent(
  ct: HloInstruction,
  a: HloInstruction,
  _: HloInstruction,
  y: HloInstruction,
): HloInstruction {
  const base = select(compare('EQ', a, filled(a, 0)), filled(a, 1), a);
  return multiply(ct, multiply(log(base), y));
}

/** Returns the cotangent of the operand x of an error function: ct · 2/√π · e^(−x²). */
function erfRule(ct: HloInstruction, x: HloInstruction): HloInstruction {
  const slope = filled(x, 2 / Math.sqrt(Math.PI));
  return multiply(ct, multiply(slope, exp(negate(multiply(x, x)))));
}

/** Returns x² + y². */
function squaredRadius(y: HloInstruction, x: HloInstruction): HloInstruction {
  return add(multiply(x, x), multiply(y, y));
}

function truncate(x: HloInstruction): HloInstruction {
  return multiply(sign(x), floor(abs(x)));
}

/**
 * Passes each element of the cotangent of a clamp to at most one operand. Where the value lies
 * strictly between the bounds, the value receives the element. Where a bound replaces the value,
 * that bound receives it. Where the value equals a bound, no operand receives it.
 */
function clampRule(it: Clamp, ct: HloInstruction): Contribution[] {
  const x = operand(it, 1);
  const low = like(operand(it, 0), x);
  const high = like(operand(it, 2), x);
  const zero = filled(x, 0);
  const where = (p: HloInstruction) => select(p, ct, zero);
  const toBound = (bound: HloInstruction, p: HloInstruction) => sumToScalar(where(p), bound);
  return toOperands(
    it,
    () => toBound(operand(it, 0), and(compare('LT', x, low), compare('LT', low, high))),
    () => where(and(compare('GT', x, low), compare('LT', maximum(low, x), high))),
    () => toBound(operand(it, 2), compare('LT', high, maximum(low, x))),
  );
}
