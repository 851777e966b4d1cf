import fc from 'fast-check';
import { afterAll as afterTests, describe, expect, test } from 'vitest';
import { gradient } from '../../src/autodiff/gradient.ts';
import { rules } from '../../src/autodiff/rules.ts';
import {
  add,
  adder,
  allReduce,
  binary,
  broadcast,
  clamp,
  compare,
  computation,
  concatenate,
  convert,
  convolution,
  dot,
  exp,
  floor,
  getTupleElement,
  greaterOrEqual,
  maximizer,
  maximum,
  minimum,
  multiply,
  pad,
  parameter,
  reduce,
  reduceMax,
  reducePrecision,
  reduceSum,
  reduceWindow,
  reshape,
  reverse,
  scalar,
  select,
  selectAndScatter,
  slice,
  transpose,
  tuple,
  unary,
  windowDimension,
} from '../../src/hlo/build.ts';
import type {
  BinaryOpcode,
  HloInstruction,
  Opcode,
  Parameter,
  UnaryOpcode,
  WindowDimension,
} from '../../src/hlo/instruction.ts';
import { postOrder } from '../../src/hlo/traverse.ts';
import { PodError } from '../../src/numerics/error.ts';
import { type ArrayShape, arrayShape, elementCount } from '../../src/numerics/shape.ts';
import { gradientError, slopeOf, spreadValues, weighted } from './check.ts';
import { interpret, type Values } from './interpret.ts';

const f32 = (dims: readonly number[]): ArrayShape => arrayShape('f32', dims);
const input = (index: number, dims: readonly number[]): Parameter => parameter(index, f32(dims));

const derived = new Set<Opcode>();

/**
 * Expects the gradient of a weighted sum of `y` to equal numeric derivatives within 1e-6, and second
 * derivatives to equal numeric derivatives of the gradient within 1e-5.
 */
function expectGradient(
  y: HloInstruction,
  inputs: readonly Parameter[],
  values: readonly Values[],
  seed = 1,
): void {
  for (const it of postOrder(y)) derived.add(it.opcode);
  const leaves = new Map(inputs.map((x, i) => [x as HloInstruction, values[i]!]));
  const loss = weighted(y, seed);
  expect(gradientError(loss, inputs, leaves)).toBeLessThan(1e-6);
  const slope = slopeOf(loss, inputs, seed);
  for (const it of postOrder(slope)) derived.add(it.opcode);
  expect(gradientError(slope, inputs, leaves)).toBeLessThan(1e-5);
}

function spread(inputs: readonly Parameter[], seed: number, low = -2, high = 2): number[][] {
  return inputs.map((x, i) =>
    spreadValues(elementCount(x.shape as ArrayShape), seed + i, low + i * 0.013, high),
  );
}

const dimsOf = (maxRank: number, maxSize = 3) =>
  fc.array(fc.integer({ min: 1, max: maxSize }), { maxLength: maxRank });
const seeds = fc.nat({ max: 1000 });
const runs = { numRuns: 40 };

/** Collectives of several replicas. test/hlo/collective.test.ts holds their derivatives. */
const ofReplicas = ['all-gather', 'reduce-scatter', 'all-to-all', 'collective-permute'] as const;

/** Places that are computed. test/hlo/{indexed,gather}.test.ts hold these derivatives. */
const ofPlaces = ['dynamic-slice', 'dynamic-update-slice', 'gather', 'scatter'] as const;

/** Other opcodes. test/autodiff/algebra.test.ts holds their derivatives. */
const ofAlgebra = ['cholesky', 'triangular-solve', 'stochastic-convert'] as const;

afterTests(() => {
  const withRule = Object.entries(rules).flatMap(([opcode, it]) => ('rule' in it ? [opcode] : []));
  const held = new Set<string>([...derived, ...ofReplicas, ...ofPlaces, ...ofAlgebra]);
  expect(withRule.filter((opcode) => !held.has(opcode))).toEqual([]);
});

describe('the gradient of an element-wise operation', () => {
  const ranges: Partial<Record<UnaryOpcode, readonly [number, number]>> = {
    log: [0.3, 3],
    'log-plus-one': [-0.6, 3],
    rsqrt: [0.4, 3],
    sqrt: [0.3, 3],
    cbrt: [0.3, 3],
    tan: [-1.3, 1.3],
  };
  const unaries: UnaryOpcode[] = [
    'abs',
    'cosine',
    'exponential',
    'exponential-minus-one',
    'log',
    'log-plus-one',
    'logistic',
    'negate',
    'rsqrt',
    'sine',
    'sqrt',
    'tanh',
    'cbrt',
    'tan',
    'erf',
  ];
  test.each(unaries)('%s', (opcode) => {
    const [low, high] = ranges[opcode] ?? [-2, 2];
    fc.assert(
      fc.property(dimsOf(3), seeds, (dims, seed) => {
        const x = input(0, dims);
        expectGradient(unary(opcode, x), [x], spread([x], seed, low, high), seed);
      }),
      runs,
    );
  });

  const binaries: BinaryOpcode[] = [
    'add',
    'subtract',
    'multiply',
    'divide',
    'maximum',
    'minimum',
    'power',
    'remainder',
    'atan2',
  ];
  test.each(binaries)('%s', (opcode) => {
    fc.assert(
      fc.property(dimsOf(3), seeds, (dims, seed) => {
        const inputs = [input(0, dims), input(1, dims)];
        const [low, high] = opcode === 'power' ? [0.4, 2] : [-2, 2];
        const values = spread(inputs, seed, low, high);
        // The operands keep away from points without a derivative. For a remainder these are the
        // points where the first operand is a multiple of the second. For a quotient they are the
        // points where the divisor is 0.
        if (opcode === 'remainder') values[1] = values[0]!.map((x) => x * 0.73 + Math.sign(x));
        if (opcode === 'remainder') values[0] = values[0]!.map((x) => x * 3.1);
        const steps = values[0]!.map((x, i) => (x / values[1]![i]!) % 1);
        fc.pre(
          opcode !== 'remainder' || steps.every((r) => Math.abs(r) > 0.01 && Math.abs(r) < 0.99),
        );
        if (opcode === 'divide') values[1] = values[1]!.map((x) => x + Math.sign(x) * 0.5);
        expectGradient(binary(opcode, inputs[0]!, inputs[1]!), inputs, values, seed);
      }),
      runs,
    );
  });

  test('sums over all uses of a value', () => {
    const x = input(0, [3]);
    expectGradient(multiply(x, multiply(x, exp(x))), [x], [[0.5, -1, 0.25]]);
  });

  test.each([
    ['maximum', maximum],
    ['minimum', minimum],
  ])('of %s is divided equally between equal operands', (_, best) => {
    const [a, b] = [input(0, [3]), input(1, [3])];
    const leaves = new Map<HloInstruction, Values>([
      [a, [1, 2, 2]],
      [b, [2, 2, 1]],
    ]);
    const [byA, byB] = gradient(reduceSum(best(a, b), [0]), [a, b]);
    const shares = [interpret(byA!, leaves), interpret(byB!, leaves)];
    const expected = [
      [0, 0.5, 1],
      [1, 0.5, 0],
    ];
    expect(shares).toEqual(best === maximum ? expected : expected.toReversed());
  });

  test('of maximum goes to a constant if both are equal; that of ReLU needs only its result', () => {
    const x = input(0, [3]);
    const zero = broadcast(scalar('f32', 0), [3], []);
    const leaves = new Map<HloInstruction, Values>([[x, [-1, 0, 1]]]);
    const derive = (y: HloInstruction) => gradient(reduceSum(y, [0]), [x])[0]!;
    expect(interpret(derive(maximum(x, zero)), leaves)).toEqual([0, 0, 1]);
    expect(interpret(derive(maximum(zero, x)), leaves)).toEqual([0, 0, 1]);
    expect(interpret(derive(minimum(zero, x)), leaves)).toEqual([1, 0, 0]);
    const relu = maximum(exp(x), zero);
    const users = postOrder(derive(relu)).filter((it) => it.opcode === 'compare');
    expect(users.map((it) => it.operands[0])).toEqual([relu]);
    expect(gradient(reduceSum(relu, [0]), [zero]).map((it) => interpret(it, leaves))).toEqual([
      [0, 0, 0],
    ]);
  });

  test('of power is finite at a base of 0 and at an exponent of 0', () => {
    const [a, b] = [input(0, [2]), input(1, [2])];
    const leaves = new Map<HloInstruction, Values>([
      [a, [0, 3]],
      [b, [2, 0]],
    ]);
    const [byA, byB] = gradient(reduceSum(binary('power', a, b), [0]), [a, b]);
    expect(interpret(byA!, leaves)).toEqual([0, 0]);
    expect(interpret(byB!, leaves)).toEqual([0, Math.log(3)]);
  });

  test('of select goes to the selected operand', () => {
    fc.assert(
      fc.property(dimsOf(3), seeds, (dims, seed) => {
        const [a, b] = [input(0, dims), input(1, dims)];
        const y = select(compare('LT', a, b), multiply(a, b), exp(a));
        expectGradient(y, [a, b], spread([a, b], seed), seed);
      }),
      runs,
    );
  });

  test('of clamp takes scalar bounds and bounds of the full shape', () => {
    fc.assert(
      fc.property(dimsOf(2, 4), fc.boolean(), seeds, (dims, whole, seed) => {
        const bound = whole ? dims : [];
        const inputs = [input(0, bound), input(1, dims), input(2, bound)];
        const values = spread(inputs, seed);
        values[0] = values[0]!.map((x) => x / 4 - 0.7);
        values[2] = values[2]!.map((x) => x / 4 + 0.7);
        expectGradient(clamp(inputs[0]!, inputs[1]!, inputs[2]!), inputs, values, seed);
      }),
      runs,
    );
  });

  test('of clamp goes to the upper bound if the lower one is above it', () => {
    const inputs = [input(0, []), input(1, []), input(2, [])];
    expectGradient(clamp(inputs[0]!, inputs[1]!, inputs[2]!), inputs, [[1], [0.5], [-1]]);
  });

  test('passes through a conversion to bf16 and back', () => {
    const x = input(0, [2]);
    const y = convert(exp(convert(x, 'bf16')), 'f32');
    expectGradient(y, [x], [[0.5, 1]]);
    const [byX] = gradient(weighted(y), [x]);
    expect(byX!.shape).toEqual(f32([2]));
  });

  test('passes through reduce-precision, which rounds the cotangent too', () => {
    const x = input(0, [2]);
    const format = { exponentBits: 5, mantissaBits: 2 };
    const y = reducePrecision(exp(x), format);
    expectGradient(y, [x], [[0.5, 1]]);
    const [byX] = gradient(weighted(reducePrecision(x, format)), [x]);
    expect(byX).toMatchObject({ opcode: 'reduce-precision', ...format });
  });

  test('of atan2 holds in all four quadrants and on the axes', () => {
    const [y, x] = [input(0, [6]), input(1, [6])];
    const values = [
      [1, 1, -1, -1, 0, 1],
      [2, -2, -2, 2, 1, 0],
    ];
    expectGradient(binary('atan2', y, x), [y, x], values);
  });

  test('of cbrt is infinite at 0, where the slope is', () => {
    const x = input(0, []);
    const [byX] = gradient(unary('cbrt', x), [x]);
    expect(interpret(byX!, new Map([[x, [0]]]))).toEqual([Infinity]);
  });

  test('is 0 through step functions and integers', () => {
    const x = input(0, [2]);
    const y = add(floor(x), convert(convert(x, 's32'), 'f32'));
    const [byX] = gradient(reduceSum(y, [0]), [x]);
    expect(interpret(byX!, new Map([[x, [0.5, 1.5]]]))).toEqual([0, 0]);
  });
});

describe('the gradient of a change of shape equals central differences', () => {
  test('broadcast, in any order of dimensions', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 3 }), { minLength: 1, maxLength: 4 }),
        fc.infiniteStream(fc.nat()),
        fc.nat({ max: 4 }),
        seeds,
        (dims, order, rank, seed) => {
          const shuffled = permutationOf(dims.length, order);
          const dimensions = shuffled.slice(0, Math.min(rank, dims.length));
          const x = input(
            0,
            dimensions.map((d) => dims[d]!),
          );
          expectGradient(broadcast(x, dims, dimensions), [x], spread([x], seed), seed);
        },
      ),
      runs,
    );
  });

  test('reshape, transpose, reverse', () => {
    fc.assert(
      fc.property(dimsOf(4), fc.infiniteStream(fc.nat()), seeds, (dims, order, seed) => {
        const x = input(0, dims);
        const permutation = permutationOf(dims.length, order);
        const flipped = reverse(
          transpose(x, permutation),
          dims.map((_, d) => d).filter((d) => (seed >> d) & 1),
        );
        const y = reshape(flipped, [elementCount(f32(dims))]);
        expectGradient(y, [x], spread([x], seed), seed);
      }),
      runs,
    );
  });

  test('slice', () => {
    const dimension = fc
      .record({ size: fc.integer({ min: 1, max: 6 }), stride: fc.integer({ min: 1, max: 3 }) })
      .chain(({ size, stride }) =>
        fc
          .tuple(fc.nat({ max: size }), fc.nat({ max: size }))
          .map((ends) => ({ size, stride, start: Math.min(...ends), limit: Math.max(...ends) })),
      );
    fc.assert(
      fc.property(fc.array(dimension, { maxLength: 3 }), seeds, (dimensions, seed) => {
        const x = input(
          0,
          dimensions.map(({ size }) => size),
        );
        const y = slice(
          x,
          dimensions.map(({ start }) => start),
          dimensions.map(({ limit }) => limit),
          dimensions.map(({ stride }) => stride),
        );
        expectGradient(y, [x], spread([x], seed), seed);
      }),
      runs,
    );
  });

  test('pad, also with negative padding, and by the padding value', () => {
    const dimension = fc
      .record({
        size: fc.integer({ min: 1, max: 4 }),
        low: fc.integer({ min: -2, max: 2 }),
        high: fc.integer({ min: -2, max: 2 }),
        interior: fc.nat({ max: 2 }),
      })
      .filter(({ size, low, high, interior }) => low + high + size + (size - 1) * interior >= 0);
    fc.assert(
      fc.property(fc.array(dimension, { maxLength: 3 }), seeds, (dimensions, seed) => {
        const x = input(
          0,
          dimensions.map(({ size }) => size),
        );
        const value = input(1, []);
        const y = pad(x, value, {
          low: dimensions.map(({ low }) => low),
          high: dimensions.map(({ high }) => high),
          interior: dimensions.map(({ interior }) => interior),
        });
        expectGradient(y, [x, value], spread([x, value], seed), seed);
      }),
      runs,
    );
  });

  test('concatenate', () => {
    fc.assert(
      fc.property(
        fc.array(fc.nat({ max: 3 }), { minLength: 1, maxLength: 3 }),
        fc.nat({ max: 2 }),
        seeds,
        (sizes, dimension, seed) => {
          const xs = sizes.map((size, i) => input(i, [2, 2, 2].with(dimension, size)));
          expectGradient(concatenate(xs, dimension), xs, spread(xs, seed), seed);
        },
      ),
      runs,
    );
  });
});

describe('the gradient of a dot or a convolution', () => {
  test('equals central differences for a dot of any dimension numbers', () => {
    const role = fc.record({
      role: fc.constantFrom('batch', 'contract', 'lhs', 'rhs'),
      size: fc.integer({ min: 1, max: 3 }),
      lhsRank: fc.nat(),
      rhsRank: fc.nat(),
    });
    fc.assert(
      fc.property(fc.array(role, { maxLength: 5 }), seeds, (roles, seed) => {
        const on = (side: 'lhs' | 'rhs') =>
          roles
            .filter(({ role }) => role !== (side === 'lhs' ? 'rhs' : 'lhs'))
            .toSorted((a, b) => a[`${side}Rank`] - b[`${side}Rank`]);
        const [lhsRoles, rhsRoles] = [on('lhs'), on('rhs')];
        const shared = (role: string) => roles.filter((it) => it.role === role);
        const a = input(
          0,
          lhsRoles.map(({ size }) => size),
        );
        const b = input(
          1,
          rhsRoles.map(({ size }) => size),
        );
        const y = dot(a, b, {
          lhsBatch: shared('batch').map((it) => lhsRoles.indexOf(it)),
          rhsBatch: shared('batch').map((it) => rhsRoles.indexOf(it)),
          lhsContracting: shared('contract').map((it) => lhsRoles.indexOf(it)),
          rhsContracting: shared('contract').map((it) => rhsRoles.indexOf(it)),
        });
        expectGradient(y, [a, b], spread([a, b], seed), seed);
      }),
      { numRuns: 100 },
    );
  });

  const spatial = fc
    .record({
      input: fc.integer({ min: 1, max: 4 }),
      size: fc.integer({ min: 1, max: 3 }),
      stride: fc.integer({ min: 1, max: 3 }),
      padLow: fc.integer({ min: -1, max: 2 }),
      padHigh: fc.integer({ min: -1, max: 2 }),
      baseDilation: fc.integer({ min: 1, max: 2 }),
      windowDilation: fc.integer({ min: 1, max: 2 }),
      reversal: fc.boolean(),
    })
    .filter(leavesElements);
  const convolutionCase = fc.record({
    spatial: fc.array(spatial, { maxLength: 2 }),
    groups: fc.constantFrom<readonly [number, number]>([1, 1], [2, 1], [1, 2]),
    batch: fc.integer({ min: 1, max: 2 }),
    inputs: fc.integer({ min: 1, max: 2 }),
    outputs: fc.integer({ min: 1, max: 2 }),
    order: fc.infiniteStream(fc.nat()),
  });

  test('equals central differences for any window, groups and labels of a convolution', () => {
    fc.assert(
      fc.property(convolutionCase, seeds, (given, seed) => {
        const { inputs, y } = anyConvolution(given);
        expectGradient(y, inputs, spread(inputs, seed), seed);
      }),
      { numRuns: 150 },
    );
  });

  interface ConvolutionCase {
    readonly spatial: readonly (Omit<WindowDimension, never> & { readonly input: number })[];
    readonly groups: readonly [number, number];
    readonly batch: number;
    readonly inputs: number;
    readonly outputs: number;
    readonly order: Iterator<number>;
  }

  function anyConvolution(given: ConvolutionCase): { inputs: Parameter[]; y: HloInstruction } {
    const [features, batches] = given.groups;
    const rank = given.spatial.length + 2;
    const [l, k, o] = [0, 1, 2].map(() => permutationOf(rank, given.order));
    const place = (labels: readonly number[], sizes: readonly number[]) => {
      const dims = new Array<number>(rank);
      labels.forEach((d, i) => {
        dims[d] = sizes[i]!;
      });
      return dims;
    };
    const outer = [given.batch * batches, given.inputs * features];
    const x = input(0, place(l!, [...outer, ...given.spatial.map((it) => it.input)]));
    const inner = [given.inputs, given.outputs * features * batches];
    const kernel = input(1, place(k!, [...inner, ...given.spatial.map(({ size }) => size)]));
    const y = convolution(x, kernel, {
      window: given.spatial.map(({ input: _, ...window }) => window),
      dimensions: {
        inputBatch: l![0]!,
        inputFeature: l![1]!,
        inputSpatial: l!.slice(2),
        kernelInputFeature: k![0]!,
        kernelOutputFeature: k![1]!,
        kernelSpatial: k!.slice(2),
        outputBatch: o![0]!,
        outputFeature: o![1]!,
        outputSpatial: o!.slice(2),
      },
      featureGroupCount: features,
      batchGroupCount: batches,
    });
    return { inputs: [x, kernel], y };
  }

  test('keeps the precision, and is a single convolution where there are no groups', () => {
    const [x, kernel] = [input(0, [2, 4, 4, 3]), input(1, [3, 3, 3, 5])];
    const dimensions = {
      inputBatch: 0,
      inputFeature: 3,
      inputSpatial: [1, 2],
      kernelInputFeature: 2,
      kernelOutputFeature: 3,
      kernelSpatial: [0, 1],
      outputBatch: 0,
      outputFeature: 3,
      outputSpatial: [1, 2],
    };
    const window = [windowDimension({ size: 3 }), windowDimension({ size: 3 })];
    const y = convolution(x, kernel, { window, dimensions, precision: 'highest' });
    const gradients = gradient(weighted(y), [x, kernel]);
    for (const it of gradients) {
      expect(it.opcode === 'convolution' && it.precision).toBe('highest');
      expect(it.name).toBe('gradient/convolution');
    }
  });
});

describe('the gradient of a reduction equals central differences', () => {
  const reduced = fc.record({ dims: dimsOf(3), mask: fc.nat({ max: 7 }) });
  const of = (dims: readonly number[], mask: number) =>
    dims.map((_, d) => d).filter((d) => (mask >> d) & 1);

  test.each(['sum', 'maximum', 'minimum'])('reduce: %s, also by the initial value', (kind) => {
    const body = kind === 'sum' ? adder('f32') : kind === 'maximum' ? maximizer('f32') : minimizer;
    fc.assert(
      fc.property(reduced, seeds, ({ dims, mask }, seed) => {
        const inputs = [input(0, dims), input(1, [])];
        const y = reduce(inputs[0]!, inputs[1]!, of(dims, mask), body);
        expectGradient(y, inputs, spread(inputs, seed), seed);
      }),
      runs,
    );
  });

  test('reduce: equal maxima share the gradient equally', () => {
    const x = input(0, [4]);
    const [byX] = gradient(reduceMax(x, [0]), [x]);
    expect(interpret(byX!, new Map([[x, [1, 3, 3, 2]]]))).toEqual([0, 0.5, 0.5, 0]);
  });

  const windows = fc
    .array(
      fc
        .record({
          input: fc.integer({ min: 1, max: 4 }),
          size: fc.integer({ min: 1, max: 3 }),
          stride: fc.integer({ min: 1, max: 3 }),
          padLow: fc.integer({ min: -1, max: 2 }),
          padHigh: fc.integer({ min: -1, max: 2 }),
          baseDilation: fc.integer({ min: 1, max: 2 }),
          windowDilation: fc.integer({ min: 1, max: 2 }),
        })
        .filter(leavesElements),
      { maxLength: 2 },
    )
    .map((list) => list.map(({ input: n, ...w }) => ({ n, w: windowDimension(w) })));

  test('reduce-window: sum over any window', () => {
    fc.assert(
      fc.property(windows, seeds, (list, seed) => {
        const x = input(
          0,
          list.map(({ n }) => n),
        );
        const window = list.map(({ w }) => w);
        const y = reduceWindow(x, scalar('f32', 0), window, adder('f32'));
        expectGradient(y, [x], spread([x], seed), seed);
      }),
      { numRuns: 100 },
    );
  });

  test('reduce-window: maximum over overlapping and padded windows', () => {
    fc.assert(
      fc.property(windows, seeds, (list, seed) => {
        const x = input(
          0,
          list.map(({ n }) => n),
        );
        const inside = list.map(({ w }) => ({
          ...w,
          baseDilation: 1,
          windowDilation: 1,
          padLow: Math.min(w.padLow, w.size - 1),
          padHigh: Math.min(w.padHigh, w.size - 1),
        }));
        fc.pre(list.every(({ n }, d) => n + inside[d]!.padLow + inside[d]!.padHigh >= 0));
        const y = reduceWindow(x, scalar('f32', -1e6), inside, maximizer('f32'));
        fc.pre((y.shape as ArrayShape).dims.every((n) => n > 0));
        // The square makes second derivatives that are not 0.
        expectGradient(multiply(y, y), [x], spread([x], seed), seed);
      }),
      { numRuns: 100 },
    );
  });
});

describe('the gradient of an all-reduce', () => {
  test('is an all-reduce, also of several operands and through tuples', () => {
    const [a, b] = [input(0, [2]), input(1, [3])];
    const sums = allReduce([exp(a), multiply(b, b)]);
    const pair = tuple([getTupleElement(sums, 0), allReduce(getTupleElement(sums, 1))]);
    const y = concatenate([getTupleElement(pair, 1), getTupleElement(pair, 0)], 0);
    expectGradient(
      y,
      [a, b],
      [
        [0.5, 1],
        [1, 2, 3],
      ],
    );
    const opcodes = gradient(weighted(y), [a, b]).map((it) => postOrder(it).map((x) => x.opcode));
    for (const list of opcodes) expect(list).toContain('all-reduce');
  });
});

describe('gradient', () => {
  test('is 0 for an input that the loss does not depend on', () => {
    const [a, b] = [input(0, [2]), input(1, [3])];
    const [, byB] = gradient(reduceSum(a, [0]), [a, b]);
    expect(interpret(byB!, new Map())).toEqual([0, 0, 0]);
  });

  test('is 1 for the loss itself', () => {
    const a = input(0, []);
    expect(interpret(gradient(a, [a])[0]!, new Map())).toEqual([1]);
  });

  test('takes the instructions that it is told to hold as constants', () => {
    const x = input(0, []);
    const held = exp(x);
    const leaves = new Map([[x, [2]]]);
    expect(interpret(gradient(multiply(x, held), [x], [held])[0]!, leaves)).toEqual([Math.exp(2)]);
  });

  test('can be taken with respect to an intermediate value', () => {
    const x = input(0, []);
    const y = exp(x);
    const leaves = new Map([[x, [2]]]);
    expect(interpret(gradient(multiply(y, y), [y])[0]!, leaves)).toEqual([2 * Math.exp(2)]);
  });

  test('takes a chain of 20,000 instructions', () => {
    const x = input(0, []);
    let y: HloInstruction = x;
    for (let i = 0; i < 20_000; i++) y = add(y, x);
    expect(interpret(gradient(y, [x])[0]!, new Map([[x, [1]]]))).toEqual([20_001]);
  });

  test('names every new instruction after the instruction that it derives', () => {
    const x = parameter(0, f32([2]), 'x');
    const loss = reduceSum(multiply(x, exp(x)), [0]);
    const old = new Set(postOrder(loss));
    const fresh = postOrder(gradient(loss, [x])).filter((it) => !old.has(it));
    for (const { name } of fresh)
      expect(name).toMatch(/^gradient\/(x|reduce|multiply|exponential)$/);
  });

  test('throws errors that name the instruction and the reason', () => {
    const x = input(0, [4]);
    expect(() => gradient(x, [x])).toThrow(
      new PodError('bad-program', 'gradient of f32[4]: expected f32[]'),
    );
    const window = [windowDimension({ size: 2, stride: 2 })];
    const source = slice(x, [0], [2]);
    const ge = greaterOrEqual('f32');
    const zero = scalar('f32', 0);
    const scattered = selectAndScatter(x, source, zero, window, ge, maximizer('f32'));
    expect(() => gradient(reduceSum(scattered, [0]), [x])).toThrow(
      /^no derivative of select-and-scatter: .* is not a sum$/,
    );
    const product = reduce(x, scalar('f32', 1), [0], body('product', multiply));
    expect(() => gradient(product, [x])).toThrow('product is neither a sum, a maximum nor');
    const dilated = [windowDimension({ size: 2, windowDilation: 2 })];
    const best = reduceWindow(x, zero, dilated, maximizer('f32'));
    expect(() => gradient(reduceSum(best, [0]), [x])).toThrow('a maximum over a dilated window');
    const s = parameter(0, arrayShape('s32', []));
    expect(() => gradient(convert(s, 'f32'), [s])).toThrow('it is s32[], expected an array');
  });
});

/** True if negative padding does not remove more elements than the input has after dilation. */
function leavesElements(it: {
  readonly input: number;
  readonly baseDilation: number;
  readonly padLow: number;
  readonly padHigh: number;
}): boolean {
  return (it.input - 1) * it.baseDilation + 1 + it.padLow + it.padHigh >= 0;
}

const minimizer = body('min', minimum);

function body(
  name: string,
  combine: (a: HloInstruction, b: HloInstruction) => HloInstruction,
): ReturnType<typeof computation> {
  const parameters = [input(0, []), input(1, [])];
  return computation(name, parameters, combine(parameters[0]!, parameters[1]!));
}

function permutationOf(rank: number, order: Iterator<number>): number[] {
  const keys = Array.from({ length: rank }, () => order.next().value as number);
  return keys.map((_, d) => d).toSorted((a, b) => keys[a]! - keys[b]! || a - b);
}
