import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import * as b from '../../src/hlo/build.ts';
import { evaluate, evaluateReplicas } from '../../src/hlo/evaluate.ts';
import type { HloInstruction, Parameter, WindowDimension } from '../../src/hlo/instruction.ts';
import { roundToBf16 } from '../../src/numerics/bf16.ts';
import type { CoreType } from '../../src/numerics/element-type.ts';
import { bitsFromF32 } from '../../src/numerics/f32-ops.ts';
import { type Literal, literal, scalarsOf, valueAt, valuesOf } from '../../src/numerics/literal.ts';
import { philox, stream } from '../../src/numerics/random.ts';
import { type ArrayShape, arrayShape, elementCount, product } from '../../src/numerics/shape.ts';
import { castsNan } from './casts-nan.ts';
import { arbitraryModule, randomLiteral } from './programs.ts';

/**
 * Evaluates an instruction that depends on no parameters. Returns the values of all arrays of the
 * result as one list.
 */
function run(root: HloInstruction): number[] {
  return run2(root).flat();
}
/**
 * Evaluates an instruction that depends on no parameters. Returns the values of each array of the
 * result as a list of its own.
 */
function run2(root: HloInstruction): number[][] {
  return evaluate(b.module('test', [], root), { parameters: [] }).values.map(valuesOf);
}
function array(type: CoreType, dims: readonly number[], values: readonly number[]): HloInstruction {
  return b.constant(literal(type, dims, values));
}
function f32(...values: number[]): HloInstruction {
  return array('f32', [values.length], values);
}
function s32(...values: number[]): HloInstruction {
  return array('s32', [values.length], values);
}
function u32(...values: number[]): HloInstruction {
  return array('u32', [values.length], values);
}

/** Returns the elements of all arrays that a program returns or sends. */
function scalars({ values, outfeed }: ReturnType<typeof evaluate>): unknown {
  return [...values, ...outfeed.flat()].map(({ shape, data }) => ({
    shape,
    elements: scalarsOf({ shape, data }),
  }));
}

test('a random program returns arrays of its shapes, and the same values each time', () => {
  fc.assert(
    fc.property(arbitraryModule(), ({ module, inputs }) => {
      fc.pre(!castsNan(module, [inputs]));
      const first = evaluate(module, inputs);
      const second = evaluate(module, inputs);
      // Compares values, not stored bits: JavaScript does not define the sign of a NaN.
      expect(scalars(first)).toEqual(scalars(second));
      for (const { shape, data } of [...first.values, ...first.outfeed.flat()]) {
        expect(data.length).toBe(elementCount(shape));
      }
    }),
    { numRuns: 300 },
  );
});

describe('element-wise operations', () => {
  test('in f32 round once, and in bf16 a second time', () => {
    expect(run(b.add(f32(2 ** 24), f32(1)))).toEqual([2 ** 24]);
    expect(run(b.add(array('bf16', [1], [256]), array('bf16', [1], [1])))).toEqual([256]);
    expect(run(b.add(array('bf16', [1], [256]), array('bf16', [1], [3])))).toEqual([260]);
  });

  test('maximum and minimum return NaN for NaN, and take −0 as below +0', () => {
    expect(run(b.maximum(f32(NaN, 1, -0, 0), f32(1, NaN, 0, -0)))).toEqual([NaN, NaN, 0, 0]);
    expect(run(b.minimum(f32(NaN, 1, -0, 0), f32(1, NaN, 0, -0)))).toEqual([NaN, NaN, -0, -0]);
  });

  test('on integers wrap around, and division by 0 and overflow follow XLA', () => {
    const least = -(2 ** 31);
    expect(run(b.multiply(s32(65537), s32(65537)))).toEqual([131073]);
    expect(run(b.divide(s32(7, -7, 5, least), s32(2, 2, 0, -1)))).toEqual([3, -3, -1, least]);
    expect(run(b.remainder(s32(7, -7, 5, least), s32(2, 2, 0, -1)))).toEqual([1, -1, 5, 0]);
    expect(run(b.divide(u32(7, 4294967295), u32(0, 2)))).toEqual([4294967295, 2147483647]);
    expect(run(b.subtract(u32(0), u32(1)))).toEqual([4294967295]);
    expect(run(b.abs(s32(least, -3)))).toEqual([least, 3]);
    expect(run(b.negate(u32(1)))).toEqual([4294967295]);
    expect(run(b.multiply(u32(4294967295), u32(4294967295)))).toEqual([1]);
  });

  test('shifts by 32 or more give 0, or the sign for arithmetic shifts', () => {
    expect(run(b.shiftLeft(s32(1, 1, 1, 1), s32(31, 32, 40, -1)))).toEqual([-(2 ** 31), 0, 0, 0]);
    expect(run(b.shiftRightLogical(s32(-1, -1), s32(1, 32)))).toEqual([2 ** 31 - 1, 0]);
    expect(run(b.shiftRightArithmetic(s32(-8, -8, 8), s32(1, 99, 99)))).toEqual([-4, -1, 0]);
  });

  test('remainder has the sign of the dividend', () => {
    expect(run(b.remainder(f32(5.5, -5.5, 5, 1), f32(2, 2, 0, Infinity)))).toEqual([
      1.5,
      -1.5,
      NaN,
      1,
    ]);
  });

  test('conversion to integers rounds towards zero, saturates, and turns NaN into 0', () => {
    const values = f32(1.9, -1.9, 3e9, -3e9, NaN, -0.5);
    expect(run(b.convert(values, 's32'))).toEqual([1, -1, 2147483647, -2147483648, 0, 0]);
    expect(run(b.convert(values, 'u32'))).toEqual([1, 0, 3e9, 0, 0, 0]);
    expect(run(b.convert(values, 'pred'))).toEqual([1, 1, 1, 1, 1, 1]);
    expect(run(b.convert(f32(1 + 2 ** -8), 'bf16'))).toEqual([1]);
    expect(run(b.convert(s32(-1, 16777217), 'u32'))).toEqual([4294967295, 16777217]);
    expect(run(b.convert(s32(16777217), 'f32'))).toEqual([16777216]);
  });

  test('bitcast-convert, not and xor work on bits', () => {
    expect(run(b.bitcastConvert(f32(1, -0), 'u32'))).toEqual([0x3f800000, 0x80000000]);
    expect(run(b.not(array('pred', [2], [0, 1])))).toEqual([1, 0]);
    expect(run(b.not(u32(1)))).toEqual([4294967294]);
    expect(run(b.xor(s32(5, -1), s32(3, 1)))).toEqual([6, -2]);
  });

  test('compare, select and clamp treat NaN and zeros as XLA does', () => {
    expect(run(b.compare('NE', f32(NaN, 0), f32(NaN, -0)))).toEqual([1, 0]);
    expect(run(b.compare('GE', f32(NaN, 0), f32(NaN, -0)))).toEqual([0, 1]);
    expect(run(b.select(array('pred', [2], [1, 0]), f32(1, 2), f32(3, 4)))).toEqual([1, 4]);
    const clamped = b.clamp(b.scalar('f32', 0), f32(-1, 0.5, 2, NaN), f32(1, 1, 1, 1));
    expect(run(clamped)).toEqual([0, 0.5, 1, NaN]);
  });

  test('floor, ceil, rounding, sign, is-finite and rsqrt give the expected values', () => {
    const x = f32(-0.5, 0.5, 1.5, 2.5, -1.2);
    expect(run(b.floor(x))).toEqual([-1, 0, 1, 2, -2]);
    expect(run(b.ceil(x))).toEqual([-0, 1, 2, 3, -1]);
    expect(run(b.roundNearestEven(x))).toEqual([-0, 0, 2, 2, -1]);
    expect(run(b.sign(f32(-3, -0, NaN)))).toEqual([-1, -0, NaN]);
    expect(run(b.isFinite(f32(1, NaN, -Infinity)))).toEqual([1, 0, 0]);
    expect(run(b.rsqrt(f32(4, 0)))).toEqual([0.5, Infinity]);
  });
});

describe('changes of shape', () => {
  const m = array('s32', [2, 3], [1, 2, 3, 4, 5, 6]);

  test('give the expected values in examples', () => {
    expect(run(b.transpose(m, [1, 0]))).toEqual([1, 4, 2, 5, 3, 6]);
    expect(run(b.broadcast(s32(1, 2), [2, 3], [0]))).toEqual([1, 1, 1, 2, 2, 2]);
    expect(run(b.broadcast(m, [3, 2], [1, 0]))).toEqual([1, 4, 2, 5, 3, 6]);
    expect(run(b.slice(m, [0, 0], [2, 3], [1, 2]))).toEqual([1, 3, 4, 6]);
    expect(run(b.reverse(m, [1]))).toEqual([3, 2, 1, 6, 5, 4]);
    expect(run(b.concatenate([m, m], 1))).toEqual([1, 2, 3, 1, 2, 3, 4, 5, 6, 4, 5, 6]);
    expect(
      run(
        b.concatenate(
          [m, s32(7, 8, 9)].map((x) => b.reshape(x, [x === m ? 2 : 1, 3])),
          0,
        ),
      ),
    ).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9]);
    expect(run(b.iota(arrayShape('f32', [2, 3]), 1))).toEqual([0, 1, 2, 0, 1, 2]);
    expect(run(b.iota(arrayShape('f32', [2, 3]), 0))).toEqual([0, 0, 0, 1, 1, 1]);
    const padding = { low: [-1, 1], high: [1, -1], interior: [0, 1] };
    expect(run(b.pad(m, b.scalar('s32', 0), padding))).toEqual([0, 4, 0, 5, 0, 0, 0, 0, 0, 0]);
  });
});

const smallDims = fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 0, maxLength: 2 });

/**
 * Returns the sum of `products` in the order of the MXU. A tile has 128 products, which are added
 * one after another. Then the sums of the tiles are added one after another.
 */
function tiled(products: readonly number[]): number {
  let total = 0;
  for (let from = 0; from < products.length; from += 128) {
    total = Math.fround(
      total + products.slice(from, from + 128).reduce((sum, p) => Math.fround(sum + p), 0),
    );
  }
  return total;
}

/**
 * Returns the product of two f32 numbers, rounded to f32. Returns +0 if the magnitude of the exact
 * product is below 2^-126, the smallest normal f32.
 */
function times(a: number, b: number): number {
  return Math.abs(a * b) < 2 ** -126 ? 0 : Math.fround(a * b);
}

describe('dot', () => {
  test('with batch, free and contracting dimensions sums over the contracting ones', () => {
    const property = fc.property(
      fc.tuple(smallDims, smallDims, smallDims, smallDims),
      fc.constantFrom('default', 'highest'),
      fc.boolean(),
      fc.nat(),
      ([batch, rows, columns, depth], precision, deep, seed) => {
        const contracted = deep ? [...depth, 150] : depth;
        const k = product(contracted);
        const lhsDims = [...contracted, ...rows, ...batch];
        const rhsDims = [...columns, ...batch, ...contracted];
        const range = (from: number, count: number): number[] =>
          Array.from({ length: count }, (_, i) => from + i);
        const lhs = randomLiteral(arrayShape('f32', lhsDims), stream(seed, 'lhs'));
        const rhs = randomLiteral(arrayShape('f32', rhsDims), stream(seed, 'rhs'));
        const found = run(
          b.dot(
            b.constant(lhs),
            b.constant(rhs),
            {
              lhsContracting: range(0, contracted.length),
              lhsBatch: range(contracted.length + rows.length, batch.length),
              rhsBatch: range(columns.length, batch.length),
              rhsContracting: range(columns.length + batch.length, contracted.length),
            },
            precision,
          ),
        );
        const [x, y] = [lhs, rhs].map((it) =>
          valuesOf(it).map((v) => (precision === 'default' ? roundToBf16(v) : v)),
        ) as [number[], number[]];
        const [nBatch, nRows, nColumns] = [batch, rows, columns].map(product) as [
          number,
          number,
          number,
        ];
        const expected: number[] = [];
        for (let n = 0; n < nBatch; n++) {
          for (let r = 0; r < nRows; r++) {
            for (let c = 0; c < nColumns; c++) {
              const products = range(0, k).map((i) =>
                times(x[(i * nRows + r) * nBatch + n]!, y[(c * nBatch + n) * k + i]!),
              );
              expected.push(tiled(products));
            }
          }
        }
        expect(found).toEqual(expected);
      },
    );
    fc.assert(property);
  });

  test('flushes a product below 2^-126 to +0 before the sum', () => {
    const tiny = array('f32', [1, 2], [2 ** -63, 2 ** -100]);
    const small = array('f32', [2, 1], [-(2 ** -63), 2 ** -27]);
    expect(run(b.matmul(tiny, small))).toEqual([-(2 ** -126)]);
    expect(run(b.matmul(tiny, small, 'highest'))).toEqual([-(2 ** -126)]);
  });

  test('rounds multiplicands to bf16 at default precision', () => {
    const x = array('f32', [1, 1], [1 + 2 ** -8]);
    expect(run(b.matmul(x, x))).toEqual([1]);
    expect(run(b.matmul(x, x, 'highest'))).toEqual([1 + 2 ** -7 + 2 ** -16]);
  });

  test('sums tiles of 128 terms separately', () => {
    const ones = new Array<number>(256).fill(2 ** -17);
    ones[0] = 128;
    const lhs = array('f32', [1, 256], ones);
    const rhs = array('f32', [256, 1], new Array<number>(256).fill(1));
    // In the first tile, 128 + 2^-17 rounds to 128, so the sum of this tile is 128. In the second
    // tile, 128 terms of 2^-17 give the sum 2^-10. The sum of the two tiles is exact.
    expect(run(b.matmul(lhs, rhs))).toEqual([128 + 2 ** -10]);
  });
});

/** An array of numbers, with its dimensions. */
interface Dense {
  readonly dims: readonly number[];
  readonly at: (...index: number[]) => number;
}

function dense(dims: readonly number[], values: readonly number[]): Dense {
  return {
    dims,
    at: (...index) => values[index.reduce((flat, i, d) => flat * dims[d]! + i, 0)]!,
  };
}

/**
 * Returns `input`, images with the dimensions [batch, y, x, feature], dilated and padded. `window`
 * says how much, first for y and then for x.
 */
function spread(input: Dense, window: readonly WindowDimension[]): Dense {
  const [n, height, width, features] = input.dims as [number, number, number, number];
  const [v, h] = window as [WindowDimension, WindowDimension];
  const place = (i: number, w: WindowDimension): number => (i - w.padLow) / w.baseDilation;
  const extent = (size: number, w: WindowDimension): number =>
    w.padLow + (size - 1) * w.baseDilation + 1 + w.padHigh;
  return {
    dims: [n, extent(height, v), extent(width, h), features],
    at: (image, y, x, f) => {
      const [row, column] = [place(y!, v), place(x!, h)];
      const inside =
        Number.isInteger(row) &&
        Number.isInteger(column) &&
        row >= 0 &&
        row < height &&
        column >= 0 &&
        column < width;
      return inside ? input.at(image!, row, column, f!) : 0;
    },
  };
}

const windowArbitrary = fc.record({
  size: fc.integer({ min: 1, max: 3 }),
  stride: fc.integer({ min: 1, max: 3 }),
  padLow: fc.integer({ min: 0, max: 2 }),
  padHigh: fc.integer({ min: 0, max: 2 }),
  baseDilation: fc.integer({ min: 1, max: 2 }),
  windowDilation: fc.integer({ min: 1, max: 2 }),
  reversal: fc.boolean(),
});

const imageDimensions = {
  inputBatch: 0,
  inputFeature: 3,
  inputSpatial: [1, 2],
  kernelInputFeature: 2,
  kernelOutputFeature: 3,
  kernelSpatial: [0, 1],
  outputBatch: 0,
  outputFeature: 3,
  outputSpatial: [1, 2],
} as const;

describe('convolution', () => {
  test('is a sum of products over each window of the padded and dilated input', () => {
    const property = fc.property(
      fc.tuple(windowArbitrary, windowArbitrary),
      fc.record({
        height: fc.integer({ min: 1, max: 6 }),
        width: fc.integer({ min: 1, max: 6 }),
        perGroup: fc.integer({ min: 1, max: 3 }),
        outputsPerGroup: fc.integer({ min: 1, max: 2 }),
        images: fc.integer({ min: 1, max: 2 }),
        groups: fc.constantFrom<[number, number]>([1, 1], [2, 1], [3, 1], [1, 2], [1, 3]),
      }),
      fc.nat(),
      (window, sizes, seed) => {
        const [featureGroupCount, batchGroupCount] = sizes.groups;
        const groups = featureGroupCount * batchGroupCount;
        const outputs = sizes.outputsPerGroup * groups;
        const inputDims = [
          sizes.images * batchGroupCount,
          sizes.height,
          sizes.width,
          sizes.perGroup * featureGroupCount,
        ];
        const kernelDims = [window[0].size, window[1].size, sizes.perGroup, outputs];
        const input = randomLiteral(arrayShape('f32', inputDims), stream(seed, 'input'));
        const kernel = randomLiteral(arrayShape('f32', kernelDims), stream(seed, 'kernel'));
        const options = { window, dimensions: imageDimensions, featureGroupCount, batchGroupCount };
        const it = b.convolution(b.constant(input), b.constant(kernel), options);

        const x = spread(dense(inputDims, valuesOf(input).map(roundToBf16)), window);
        const w = dense(kernelDims, valuesOf(kernel).map(roundToBf16));
        const [v, h] = window;
        const flip = (i: number, { size, reversal }: WindowDimension): number =>
          reversal ? size - 1 - i : i;
        const expected: number[] = [];
        const reach = (d: WindowDimension): number => (d.size - 1) * d.windowDilation;
        for (let n = 0; n < sizes.images; n++) {
          for (let y = 0; y + reach(v) < x.dims[1]!; y += v.stride) {
            for (let c = 0; c + reach(h) < x.dims[2]!; c += h.stride) {
              for (let o = 0; o < outputs; o++) {
                const group = Math.floor(o / sizes.outputsPerGroup);
                const image = batchGroupCount > 1 ? group * sizes.images + n : n;
                const first = featureGroupCount > 1 ? group * sizes.perGroup : 0;
                const products: number[] = [];
                for (let i = 0; i < v.size; i++) {
                  for (let j = 0; j < h.size; j++) {
                    for (let f = 0; f < sizes.perGroup; f++) {
                      const value = x.at(
                        image,
                        y + i * v.windowDilation,
                        c + j * h.windowDilation,
                        first + f,
                      );
                      products.push(times(value, w.at(flip(i, v), flip(j, h), f, o)));
                    }
                  }
                }
                expected.push(tiled(products));
              }
            }
          }
        }
        expect(run(it)).toEqual(expected);
      },
    );
    fc.assert(property, { numRuns: 200 });
  });

  test('gives the same values for any order of dimensions', () => {
    const input = randomLiteral(arrayShape('f32', [2, 5, 4, 3]), stream(1, 'input'));
    const kernel = randomLiteral(arrayShape('f32', [2, 3, 3, 6]), stream(1, 'kernel'));
    const window = [2, 3].map((size) => b.windowDimension({ size }));
    const plain = b.convolution(b.constant(input), b.constant(kernel), {
      window,
      dimensions: imageDimensions,
    });
    // `moved` is the same convolution as `plain`, with the dimensions of all arrays in reverse
    // order. For images, this order is (feature, width, height, image).
    const moved = b.convolution(
      b.transpose(b.constant(input), [3, 2, 1, 0]),
      b.transpose(b.constant(kernel), [3, 2, 1, 0]),
      {
        window,
        dimensions: {
          inputBatch: 3,
          inputFeature: 0,
          inputSpatial: [2, 1],
          kernelInputFeature: 1,
          kernelOutputFeature: 0,
          kernelSpatial: [3, 2],
          outputBatch: 1,
          outputFeature: 0,
          outputSpatial: [3, 2],
        },
      },
    );
    expect(moved.shape.dims).toEqual([6, 2, 2, 4]);
    expect(run(b.transpose(moved, [1, 3, 2, 0]))).toEqual(run(plain));
  });
});

describe('reductions', () => {
  test('combine elements in row-major order, starting from the initial value', () => {
    const [x, y] = [0, 1].map((i) => b.parameter(i, arrayShape('f32', []))) as [
      Parameter,
      Parameter,
    ];
    const body = b.computation('halve', [x, y], b.add(b.multiply(x, b.scalar('f32', 0.5)), y));
    const m = array('f32', [2, 2], [1, 2, 4, 8]);
    const init = b.scalar('f32', 16);
    expect(run(b.reduce(m, init, [1, 0], body))).toEqual([16 / 16 + 1 / 8 + 2 / 4 + 4 / 2 + 8]);
    expect(run(b.reduce(m, init, [0], body))).toEqual([4 + 0.5 + 4, 4 + 1 + 8]);
    expect(run(b.reduceSum(m, [1]))).toEqual([3, 12]);
    expect(run(b.reduceMax(m, [0]))).toEqual([4, 8]);
    expect(run(b.reduceMax(b.iota(arrayShape('s32', [0, 2]), 0), [0]))).toEqual([
      -(2 ** 31),
      -(2 ** 31),
    ]);
  });

  test('of two arrays at once can compute argmax', () => {
    const types = ['f32', 's32', 'f32', 's32'] as const;
    const [a, i, c, j] = types.map((type, n) => b.parameter(n, arrayShape(type, []))) as [
      Parameter,
      Parameter,
      Parameter,
      Parameter,
    ];
    const first = b.compare('GE', a, c);
    const pair = b.tuple([b.select(first, a, c), b.select(first, i, j)]);
    const body = b.computation('argmax', [a, i, c, j], pair);
    const values = array('f32', [2, 3], [1, 5, 5, 7, 2, 3]);
    const places = b.iota(arrayShape('s32', [2, 3]), 1);
    const inits = [b.scalar('f32', -Infinity), b.scalar('s32', -1)];
    expect(run2(b.reduce([values, places], inits, [1], body))).toEqual([
      [5, 7],
      [1, 0],
    ]);
  });

  test('reduce-window equals a reduce of each window of the padded array', () => {
    const property = fc.property(
      fc.array(fc.tuple(fc.integer({ min: 1, max: 6 }), windowArbitrary), {
        minLength: 1,
        maxLength: 2,
      }),
      fc.constantFrom('add', 'max', 'other'),
      fc.nat(),
      (parts, kind, seed) => {
        const dims = parts.map(([size]) => size);
        const window = parts.map(([, it]) => ({ ...it, reversal: false }));
        const input = b.constant(randomLiteral(arrayShape('f32', dims), stream(seed, 'x')));
        const [x, y] = [0, 1].map((i) => b.parameter(i, arrayShape('f32', []))) as [
          Parameter,
          Parameter,
        ];
        const body = {
          add: b.adder('f32'),
          max: b.maximizer('f32'),
          other: b.computation('other', [x, y], b.subtract(b.multiply(x, b.scalar('f32', 0.5)), y)),
        }[kind];
        const init = b.scalar('f32', 0.75);
        const found = b.reduceWindow(input, init, window, body);
        const padded = b.pad(input, init, {
          low: window.map(({ padLow }) => padLow),
          high: window.map(({ padHigh }) => padHigh),
          interior: window.map(({ baseDilation }) => baseDilation - 1),
        });
        const expected: number[] = [];
        const visit = (position: readonly number[]): void => {
          const d = position.length;
          if (d < dims.length) {
            for (let p = 0; p < (found.shape as ArrayShape).dims[d]!; p++) visit([...position, p]);
            return;
          }
          const starts = position.map((p, i) => p * window[i]!.stride);
          const limits = starts.map(
            (s, i) => s + (window[i]!.size - 1) * window[i]!.windowDilation + 1,
          );
          const one = b.slice(
            padded,
            starts,
            limits,
            window.map((w) => w.windowDilation),
          );
          expected.push(
            ...run(
              b.reduce(
                one,
                init,
                dims.map((_, i) => i),
                body,
              ),
            ),
          );
        };
        visit([]);
        expect(run(found)).toEqual(expected);
      },
    );
    fc.assert(property, { numRuns: 60 });
  });

  test('select-and-scatter selects the first of equal elements, and adds overlapping windows', () => {
    const window = [b.windowDimension({ size: 3 })];
    const scatter = (
      operand: HloInstruction,
      source: HloInstruction,
      w: WindowDimension[],
    ): number[] =>
      run(
        b.selectAndScatter(
          operand,
          source,
          b.scalar('f32', 0.5),
          w,
          b.greaterOrEqual('f32'),
          b.adder('f32'),
        ),
      );
    expect(scatter(f32(1, 3, 2, 3, 0), f32(10, 20, 30), window)).toEqual([
      0.5, 30.5, 0.5, 30.5, 0.5,
    ]);
    // A window never selects an element of the padding. The third window has only padding, so it
    // selects nothing, and the third element of the source, 4, is added nowhere.
    const padded = [b.windowDimension({ size: 2, stride: 2, padLow: 1, padHigh: 3 })];
    expect(scatter(f32(-1, -2, -3), f32(1, 2, 4), padded)).toEqual([1.5, 2.5, 0.5]);
  });

  test('select-and-scatter computes the gradient of a two-dimensional max-pool', () => {
    const operand = array('f32', [4, 4], [1, 2, 0, 0, 4, 3, 0, 9, 0, 0, 7, 7, 0, 5, 7, 7]);
    const source = array('f32', [2, 2], [1, 2, 3, 4]);
    const window = [0, 1].map(() => b.windowDimension({ size: 2, stride: 2 }));
    const it = b.selectAndScatter(
      operand,
      source,
      b.scalar('f32', 0),
      window,
      b.greaterOrEqual('f32'),
      b.adder('f32'),
    );
    expect(run(it)).toEqual([0, 0, 0, 0, 1, 0, 0, 2, 0, 0, 4, 0, 0, 3, 0, 0]);
  });
});

test('random bits are the blocks of Philox, and the counter carries into its next word', () => {
  const state = u32(1, 2, 2 ** 32 - 1, 3);
  const [next, words] = run2(b.rngBitGenerator(state, arrayShape('u32', [2, 3]))) as [
    number[],
    number[],
  ];
  expect(words).toEqual([
    ...philox([2 ** 32 - 1, 3, 0, 0], [1, 2]),
    ...philox([0, 4, 0, 0], [1, 2]).slice(0, 2),
  ]);
  expect(next).toEqual([1, 2, 1, 4]);
});

describe('infeed and outfeed', () => {
  const token = b.afterAll();
  const first = b.infeed(token, arrayShape('f32', [2]));
  const pair = {
    type: 'tuple',
    elements: [arrayShape('f32', [2]), arrayShape('s32', [])],
  } as const;
  const second = b.infeed(b.getTupleElement(first, 1), pair);
  const sum = b.add(
    b.getTupleElement(first, 0),
    b.getTupleElement(b.getTupleElement(second, 0), 0),
  );
  const out = b.outfeed(b.tuple([sum, sum]), b.getTupleElement(second, 1));
  const module = b.module('feeds', [], b.tuple([sum, b.outfeed(sum, out)]));
  const list = (...values: number[]): Literal => literal('f32', [values.length], values);

  test('happen in the order of their tokens', () => {
    const infeed = [[list(1, 2)], [list(10, 20), literal('s32', [], [0])]];
    const result = evaluate(module, { parameters: [], infeed });
    expect(result.outfeed.map((entry) => entry.map(valuesOf))).toEqual([
      [
        [11, 22],
        [11, 22],
      ],
      [[11, 22]],
    ]);
    expect(result.root).toEqual([list(11, 22), 'token']);
  });

  test('throw if inputs have other shapes than the program', () => {
    const wrong = { parameters: [], infeed: [[list(1)]] };
    expect(() => evaluate(module, wrong)).toThrow('infeed: expected (f32[2]), found (f32[1])');
    expect(() => evaluate(module, { parameters: [] })).toThrow(
      'infeed: expected (f32[2]), found ()',
    );
    expect(() => evaluate(module, { parameters: [list(1)] })).toThrow(
      'parameters of main: expected (), found (f32[1])',
    );
  });
});

test('all-reduce folds replicas in order by default, or calls a given function', () => {
  const x = b.parameter(0, arrayShape('f32', [2]));
  const y = b.parameter(1, arrayShape('f32', []));
  const module = b.module('sum', [x, y], b.tuple([b.allReduce([x, y]), b.negate(b.allReduce(x))]));
  const replicas = [1, 2 ** 24, 1, -(2 ** 24)].map((v, r) => ({
    parameters: [literal('f32', [2], [v, r]), literal('f32', [], [r])],
  }));
  const results = evaluateReplicas(module, replicas);
  // In order of the replicas, the sum of the first elements is ((1 + 2^24) + 1) − 2^24. In f32, the
  // results of both additions round to 2^24, so this sum is 0.
  for (const { values } of results) expect(values.map(valuesOf)).toEqual([[0, 6], [6], [-0, -6]]);
  const last = evaluateReplicas(module, replicas, { allReduce: (values) => values[3]! });
  expect(valuesOf(last[0]!.values[0]!)).toEqual([-(2 ** 24), 3]);
});

test('a fusion has the values of its body', () => {
  const [x, y] = [0, 1].map((i) => b.parameter(i, arrayShape('f32', [2]))) as [
    Parameter,
    Parameter,
  ];
  const body = b.computation('fused', [x, y], b.tuple([b.add(x, y), b.multiply(x, y)]));
  expect(run2(b.fusion('loop', [f32(1, 2), f32(3, 4)], body))).toEqual([
    [4, 6],
    [3, 8],
  ]);
});

test('operations that move elements keep the sign of −0', () => {
  const data = new Float32Array([-0, NaN]);
  const moved = evaluate(
    b.module(
      'm',
      [],
      b.reverse(b.constant({ shape: arrayShape('f32', [2]) as ArrayShape, data }), [0]),
    ),
    { parameters: [] },
  );
  expect(bitsFromF32(valueAt(moved.values[0]!, 1))).toBe(0x8000_0000 | 0);
});
