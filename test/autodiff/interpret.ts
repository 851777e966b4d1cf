import type {
  BatchNorm,
  Convolution,
  Dot,
  HloComputation,
  HloInstruction,
  ReduceWindow,
  SelectAndScatter,
  WindowDimension,
} from '../../src/hlo/instruction.ts';
import { postOrder } from '../../src/hlo/traverse.ts';
import { valuesOf } from '../../src/numerics/literal.ts';
import {
  type ArrayShape,
  isArray,
  product,
  stridesOf,
  type TupleShape,
} from '../../src/numerics/shape.ts';
import { batchNormF64 } from '../hlo/batch-norm-f64.ts';
import { choleskyF64, matricesOf, solveF64, transposed } from '../hlo/linear-algebra-f64.ts';
import { erfF64 } from '../numerics/erf-f64.ts';

/** Values of an array of any element type, in row-major order. bf16 and f32 are not rounded. */
export type Values = readonly number[];

/**
 * Evaluates HLO on one replica. All arithmetic is in f64, because checks of derivatives need more
 * precision than f32 has. `leaves` has the values of parameters. Element types are ignored, except
 * that conversions to integers truncate. `reduce-precision` rounds nothing.
 */
export function interpret(
  root: HloInstruction,
  leaves: ReadonlyMap<HloInstruction, Values>,
): Values {
  const results = new Map<HloInstruction, Values>();
  for (const it of postOrder(root)) {
    if (!isArray(it.shape)) continue;
    const operands = it.operands.map((x) => results.get(x) ?? []);
    results.set(it, leaves.get(it) ?? compute(it, operands, results));
  }
  return results.get(root)!;
}

function compute(
  it: HloInstruction,
  [a = [], b = [], c = []]: readonly Values[],
  results: ReadonlyMap<HloInstruction, Values>,
): Values {
  const { dims } = it.shape as ArrayShape;
  const [first] = it.operands;
  const inDims = first === undefined || !isArray(first.shape) ? [] : first.shape.dims;
  /**
   * Returns one element of the first operand for each element of the result. If i is the index of
   * an element in the result, `index(i)` is the index in the operand.
   */
  const gather = (index: (i: number[]) => number[]): number[] =>
    indicesOf(dims).map((i) => a[flat(inDims, index(i))]!);
  switch (it.opcode) {
    case 'constant':
      return valuesOf(it.value);
    case 'iota':
      return indicesOf(dims).map((i) => i[it.dimension]!);
    case 'abs':
      return a.map(Math.abs);
    case 'ceil':
      return a.map(Math.ceil);
    case 'cosine':
      return a.map(Math.cos);
    case 'exponential':
      return a.map(Math.exp);
    case 'exponential-minus-one':
      return a.map(Math.expm1);
    case 'floor':
      return a.map(Math.floor);
    case 'is-finite':
      return a.map((x) => Number(Number.isFinite(x)));
    case 'log':
      return a.map(Math.log);
    case 'log-plus-one':
      return a.map(Math.log1p);
    case 'logistic':
      return a.map((x) => 1 / (1 + Math.exp(-x)));
    case 'negate':
      return a.map((x) => -x);
    case 'not':
      return a.map((x) => 1 - x);
    case 'round-nearest-even':
      return a.map((x) => Math.round(x));
    case 'rsqrt':
      return a.map((x) => 1 / Math.sqrt(x));
    case 'sign':
      return a.map(Math.sign);
    case 'sine':
      return a.map(Math.sin);
    case 'sqrt':
      return a.map(Math.sqrt);
    case 'tanh':
      return a.map(Math.tanh);
    case 'cbrt':
      return a.map(Math.cbrt);
    case 'tan':
      return a.map(Math.tan);
    case 'erf':
      return a.map(erfF64);
    case 'add':
      return a.map((x, i) => x + b[i]!);
    case 'subtract':
      return a.map((x, i) => x - b[i]!);
    case 'multiply':
      return a.map((x, i) => x * b[i]!);
    case 'divide':
      return a.map((x, i) => x / b[i]!);
    case 'maximum':
      return a.map((x, i) => Math.max(x, b[i]!));
    case 'minimum':
      return a.map((x, i) => Math.min(x, b[i]!));
    case 'power':
      return a.map((x, i) => x ** b[i]!);
    case 'remainder':
      return a.map((x, i) => x % b[i]!);
    case 'atan2':
      return a.map((x, i) => Math.atan2(x, b[i]!));
    case 'and':
      return a.map((x, i) => x & b[i]!);
    case 'or':
      return a.map((x, i) => x | b[i]!);
    case 'compare':
      return a.map((x, i) => Number(holds(it.direction, x, b[i]!)));
    case 'select':
      return a.map((p, i) => (p !== 0 ? b[i]! : c[i]!));
    case 'clamp': {
      const bound = (of: Values, i: number) => (of.length === 1 ? of[0]! : of[i]!);
      return b.map((x, i) => Math.min(Math.max(x, bound(a, i)), bound(c, i)));
    }
    case 'convert':
      return it.shape.type === 's32' || it.shape.type === 'u32' ? a.map(Math.trunc) : a;
    case 'broadcast':
      return gather((i) => it.dimensions.map((d) => i[d]!));
    case 'reshape':
    case 'reduce-precision':
    case 'all-reduce':
      return a;
    case 'transpose':
      return gather((i) => it.permutation.map((_, d) => i[it.permutation.indexOf(d)]!));
    case 'slice':
      return gather((i) => i.map((n, d) => it.starts[d]! + n * it.strides[d]!));
    case 'reverse':
      return gather((i) => i.map((n, d) => (it.dimensions.includes(d) ? dims[d]! - 1 - n : n)));
    case 'pad':
      return indicesOf(dims).map((i) => {
        const from = i.map((n, d) => (n - it.low[d]!) / (it.interior[d]! + 1));
        return isInside(from, inDims) ? a[flat(inDims, from)]! : b[0]!;
      });
    case 'concatenate':
      return concatenated(it.operands, it.dimension, dims, results);
    case 'dot':
      return dotOf(it, a, b);
    case 'convolution':
      return convolutionOf(it, a, b);
    case 'reduce': {
      const sums = new Array<number>(product(dims)).fill(b[0]!);
      const kept = inDims.map((_, d) => d).filter((d) => !it.dimensions.includes(d));
      indicesOf(inDims).forEach((i, n) => {
        const to = flat(
          dims,
          kept.map((d) => i[d]!),
        );
        sums[to] = call(it.body, sums[to]!, a[n]!);
      });
      return sums;
    }
    case 'reduce-window':
      return indicesOf(dims).map((at) =>
        windowOf(it, at).reduce(
          (sum, i) => call(it.body, sum, isInside(i, inDims) ? a[flat(inDims, i)]! : b[0]!),
          b[0]!,
        ),
      );
    case 'select-and-scatter':
      return scattered(it, inDims, a, b, c);
    case 'cholesky':
      return matricesOf(a, dims).flatMap((matrix) => {
        const l = choleskyF64(it.isLower ? matrix : transposed(matrix));
        return (it.isLower ? l : transposed(l)).flat();
      });
    case 'triangular-solve': {
      const options = { ...it, isTransposed: it.transpose !== 'NO_TRANSPOSE' };
      const triangles = matricesOf(a, inDims);
      return matricesOf(b, dims).flatMap((matrix, k) =>
        solveF64(triangles[k]!, matrix, options).flat(),
      );
    }
    case 'batch-norm-inference':
      return normOf(it, results)[0]!;
    case 'get-tuple-element': {
      const whole = it.operands[0]!;
      if (whole.opcode === 'batch-norm-training' || whole.opcode === 'batch-norm-grad')
        return normOf(whole, results)[it.index]!;
      if (whole.opcode === 'reduce-window') return foldedWindows(whole, it.index, results);
      if (whole.opcode === 'tuple' || whole.opcode === 'all-reduce')
        return results.get(whole.operands[it.index]!)!;
      throw new Error(`no element of ${whole.opcode}`);
    }
    default:
      throw new Error(`not interpreted: ${it.opcode}`);
  }
}

function normOf(it: BatchNorm, results: ReadonlyMap<HloInstruction, Values>): Values[] {
  const { dims } = it.operands[0]!.shape as ArrayShape;
  return batchNormF64(
    { ...it, dims },
    it.operands.map((x) => results.get(x)!),
  );
}

function holds(direction: string, a: number, b: number): boolean {
  switch (direction) {
    case 'EQ':
      return a === b;
    case 'NE':
      return a !== b;
    case 'LT':
      return a < b;
    case 'LE':
      return a <= b;
    case 'GT':
      return a > b;
    default:
      return a >= b;
  }
}

function call({ parameters: [p, q], root }: HloComputation, a: number, b: number): number {
  const leaves = new Map<HloInstruction, Values>([
    [p!, [a]],
    [q!, [b]],
  ]);
  return interpret(root, leaves)[0]!;
}

function concatenated(
  xs: readonly HloInstruction[],
  dimension: number,
  dims: readonly number[],
  results: ReadonlyMap<HloInstruction, Values>,
): Values {
  return indicesOf(dims).map((i) => {
    let n = i[dimension]!;
    for (const x of xs) {
      const sizes = (x.shape as ArrayShape).dims;
      if (n < sizes[dimension]!) return results.get(x)![flat(sizes, i.with(dimension, n))]!;
      n -= sizes[dimension]!;
    }
    throw new Error('beyond the last operand');
  });
}

function dotOf(it: Dot, a: Values, b: Values): Values {
  const [lhs, rhs] = it.operands.map(({ shape }) => (shape as ArrayShape).dims);
  const sums = new Map<string, number>();
  indicesOf(lhs!).forEach((i, m) => {
    indicesOf(rhs!).forEach((j, n) => {
      const meets =
        it.lhsBatch.every((d, x) => i[d] === j[it.rhsBatch[x]!]) &&
        it.lhsContracting.every((d, x) => i[d] === j[it.rhsContracting[x]!]);
      if (!meets) return;
      const free = (index: number[], used: number[]) => index.filter((_, d) => !used.includes(d));
      const to = [
        ...it.lhsBatch.map((d) => i[d]!),
        ...free(i, [...it.lhsBatch, ...it.lhsContracting]),
        ...free(j, [...it.rhsBatch, ...it.rhsContracting]),
      ].join();
      sums.set(to, (sums.get(to) ?? 0) + a[m]! * b[n]!);
    });
  });
  return indicesOf(it.shape.dims).map((i) => sums.get(i.join()) ?? 0);
}

function convolutionOf(it: Convolution, a: Values, b: Values): Values {
  const [input, kernel] = it.operands.map(({ shape }) => (shape as ArrayShape).dims);
  const of = it.dimensions;
  const outputs = it.shape.dims[of.outputFeature]!;
  const perGroup = outputs / (it.featureGroupCount * it.batchGroupCount);
  return indicesOf(it.shape.dims).map((out) => {
    const feature = out[of.outputFeature]!;
    const group = Math.floor(feature / perGroup);
    const firstFeature = it.featureGroupCount > 1 ? group * kernel![of.kernelInputFeature]! : 0;
    const firstBatch = it.batchGroupCount > 1 ? group * it.shape.dims[of.outputBatch]! : 0;
    let sum = 0;
    indicesOf(kernel!).forEach((k, n) => {
      if (k[of.kernelOutputFeature] !== feature) return;
      const index = new Array<number>(input!.length).fill(0);
      index[of.inputBatch] = firstBatch + out[of.outputBatch]!;
      index[of.inputFeature] = firstFeature + k[of.kernelInputFeature]!;
      it.window.forEach((w, s) => {
        const tap = k[of.kernelSpatial[s]!]!;
        const offset = w.reversal ? w.size - 1 - tap : tap;
        index[of.inputSpatial[s]!] = place(w, out[of.outputSpatial[s]!]!, offset);
      });
      if (isInside(index, input!)) sum += a[flat(input!, index)]! * b[n]!;
    });
    return sum;
  });
}

/**
 * Maps an element of a window to its index in the operand, in one dimension. The window has the
 * index `position` among all windows; the element has the index `offset` in the window. If the
 * operand is dilated, the element may lie in a gap between two elements of the operand. The index
 * is then a fraction.
 */
function place(w: WindowDimension, position: number, offset: number): number {
  return (position * w.stride + offset * w.windowDilation - w.padLow) / w.baseDilation;
}

function windowOf(it: ReduceWindow | SelectAndScatter, at: readonly number[]): number[][] {
  const sizes = it.window.map(({ size }) => size);
  return indicesOf(sizes).map((o) => o.map((n, d) => place(it.window[d]!, at[d]!, n)));
}

/** Returns one result of a reduce-window of several arrays. */
function foldedWindows(
  it: ReduceWindow,
  index: number,
  results: ReadonlyMap<HloInstruction, Values>,
): Values {
  const count = it.operands.length / 2;
  const all = it.operands.map((x) => results.get(x)!);
  const inits = all.slice(count).map(([init]) => init!);
  const { dims } = it.operands[0]!.shape as ArrayShape;
  const { elements } = it.shape as TupleShape;
  return indicesOf((elements[index] as ArrayShape).dims).map((at) => {
    const folded = windowOf(it, at).reduce((sums, i) => {
      const inside = isInside(i, dims);
      const next = inits.map((init, n) => (inside ? all[n]![flat(dims, i)]! : init));
      const given = sums.concat(next);
      const leaves = new Map(it.body.parameters.map((p, n) => [p as HloInstruction, [given[n]!]]));
      return it.body.root.operands.map((x) => interpret(x, leaves)[0]!);
    }, inits);
    return folded[index]!;
  });
}

function scattered(
  it: SelectAndScatter,
  dims: readonly number[],
  operand: Values,
  source: Values,
  [init = 0]: Values,
): Values {
  const result = operand.map(() => init);
  const sourceDims = (it.operands[1]!.shape as ArrayShape).dims;
  indicesOf(sourceDims).forEach((at, n) => {
    const elements = windowOf(it, at).filter((i) => isInside(i, dims));
    const places = elements.map((i) => flat(dims, i));
    const best = places.reduce((x, y) => (call(it.select, operand[x]!, operand[y]!) !== 0 ? x : y));
    result[best] = call(it.scatter, result[best]!, source[n]!);
  });
  return result;
}

export function indicesOf(dims: readonly number[]): number[][] {
  return dims.reduce<number[][]>(
    (heads, size) => heads.flatMap((head) => Array.from({ length: size }, (_, i) => [...head, i])),
    [[]],
  );
}

function flat(dims: readonly number[], index: readonly number[]): number {
  return stridesOf(dims).reduce((sum, stride, d) => sum + stride * index[d]!, 0);
}

function isInside(index: readonly number[], dims: readonly number[]): boolean {
  return index.every((n, d) => Number.isInteger(n) && n >= 0 && n < dims[d]!);
}
