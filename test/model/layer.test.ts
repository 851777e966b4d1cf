import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { module, parameter } from '../../src/hlo/build.ts';
import { evaluate } from '../../src/hlo/evaluate.ts';
import { postOrder } from '../../src/hlo/traverse.ts';
import {
  conv2d,
  dense,
  flatten,
  type Layer,
  maxPool,
  relu,
  sequential,
} from '../../src/model/layer.ts';
import { networkNames, networks } from '../../src/model/networks.ts';
import { PodError } from '../../src/numerics/error.ts';
import { type Literal, literal, valuesOf } from '../../src/numerics/literal.ts';
import { arrayShape, product } from '../../src/numerics/shape.ts';

const f32 = (dims: readonly number[], values: readonly number[]): Literal =>
  literal('f32', dims, values);

/** Evaluates a layer on given parameters and a given batch. */
function run(layer: Layer, parameters: readonly Literal[], x: Literal): Literal {
  const inputs = [...parameters, x];
  const declared = inputs.map(({ shape }, i) => parameter(i, shape));
  const y = layer.apply(declared.slice(0, -1), declared.at(-1)!, 'highest');
  return evaluate(module('layer', declared, y), { parameters: inputs }).values[0]!;
}

describe('a layer computes the expected values', () => {
  test('dense', () => {
    const y = run(
      dense('d', 2),
      [f32([3, 2], [1, 2, 3, 4, 5, 6]), f32([2], [10, 20])],
      f32([1, 3], [1, 0, -1]),
    );
    expect([y.shape.dims, valuesOf(y)]).toEqual([
      [1, 2],
      [6, 16],
    ]);
  });

  test('conv2d with valid padding: windows lie inside the image', () => {
    const image = f32([1, 3, 3, 1], [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    const kernel = f32([2, 2, 1, 1], [1, 0, 0, -1]);
    const y = run(conv2d('c', 1, [2, 2]), [kernel, f32([1], [100])], image);
    expect([y.shape.dims, valuesOf(y)]).toEqual([
      [1, 2, 2, 1],
      [96, 96, 96, 96],
    ]);
  });

  test('conv2d with same padding: an odd zero goes to the end', () => {
    const image = f32([1, 2, 2, 1], [1, 2, 3, 4]);
    const kernel = f32([2, 2, 1, 1], [1, 1, 1, 1]);
    const y = run(conv2d('c', 1, [2, 2], { padding: 'same' }), [kernel, f32([1], [0])], image);
    expect([y.shape.dims, valuesOf(y)]).toEqual([
      [1, 2, 2, 1],
      [10, 6, 7, 4],
    ]);
  });

  test('maxPool ignores elements at the edge that fill no window', () => {
    const image = f32([1, 2, 5, 1], [1, 2, -3, -4, 99, 5, 0, -2, -9, 99]);
    const y = run(maxPool('p', [2, 2]), [], image);
    expect([y.shape.dims, valuesOf(y)]).toEqual([
      [1, 1, 2, 1],
      [5, -2],
    ]);
  });

  test('relu returns NaN for NaN', () => {
    expect(valuesOf(run(relu('r'), [], f32([3], [-1, 2, Number.NaN])))).toEqual([0, 2, Number.NaN]);
  });

  test('conv2d refuses an image that is too small with one line', () => {
    expect(() => conv2d('conv1', 4, [3, 3]).init([2, 28, 1], 0)).toThrow(
      new PodError('bad-config', 'conv1: expected an image of at least 3×3, found 2×28'),
    );
  });
});

test('apply has the output size that init reports', () => {
  const options = fc.record({
    stride: fc.integer({ min: 1, max: 3 }),
    padding: fc.constantFrom('valid' as const, 'same' as const),
  });
  const side = fc.integer({ min: 1, max: 3 });
  const image = fc.integer({ min: 3, max: 9 });
  fc.assert(
    fc.property(image, image, side, side, options, (rows, columns, h, w, given) => {
      const stages = [
        conv2d('c', 3, [h, w], given),
        relu('r'),
        maxPool('p', [1, 1]),
        flatten('f'),
        dense('d', 4),
      ];
      for (let n = 1; n <= stages.length; n++) {
        const layer = sequential(...stages.slice(0, n));
        const dims = [rows, columns, 2];
        const { parameters, outputDims } = layer.init(dims, 1);
        expect(parameters.length).toBe(layer.parameters);
        const declared = parameters.map(({ value }, i) => parameter(i, value.shape));
        const x = parameter(declared.length, arrayShape('f32', [5, ...dims]));
        expect(layer.apply(declared, x, 'default').shape).toEqual(
          arrayShape('f32', [5, ...outputDims]),
        );
      }
    }),
  );
});

describe('networks', () => {
  test.each([
    ['mlp', ['dense1', 'dense2'], 784 * 512 + 512 + 512 * 10 + 10],
    ['cnn', ['conv1', 'conv2', 'dense1', 'dense2'], 1_199_882],
  ] as const)('%s has the expected layers and number of weights', (name, layers, count) => {
    const { parameters, outputDims } = networks[name](10).init([28, 28, 1], 0);
    expect(outputDims).toEqual([10]);
    const names = parameters.map((it) => it.name);
    expect(names).toEqual(layers.flatMap((layer) => [`${layer}/kernel`, `${layer}/bias`]));
    const sizes = parameters.map(({ value }) => product(value.shape.dims));
    expect(sizes.reduce((a, b) => a + b)).toBe(count);
  });

  test.each(networkNames)(
    '%s starts with He uniform weights, small weights in the last layer, and zero biases',
    (name) => {
      for (const it of networks[name](10).init([28, 28, 1], 3).parameters) {
        const values = valuesOf(it.value);
        const { dims } = it.value.shape;
        const he = Math.sqrt(6 / product(dims.slice(0, -1)));
        const limit = it.name === 'dense2/kernel' ? 0.01 * Math.sqrt(3) : he;
        if (it.name.endsWith('bias')) {
          expect(values.every((x) => x === 0)).toBe(true);
          continue;
        }
        expect(values.every((x) => Math.abs(x) <= limit * (1 + 1e-6))).toBe(true);
        const variance = values.reduce((sum, x) => sum + x * x, 0) / values.length;
        const spread = 3 * limit ** 2 * Math.sqrt(4 / 45 / values.length);
        expect(Math.abs(variance - limit ** 2 / 3)).toBeLessThanOrEqual(spread);
      }
    },
  );

  test('have initial weights that depend on seed and name only', () => {
    const of = (layer: Layer, seed: number) => layer.init([4], seed).parameters[0]!.value;
    const alone = of(dense('a', 3), 1);
    expect(of(sequential(dense('a', 3), dense('b', 3)), 1)).toEqual(alone);
    expect(of(dense('a', 3), 2)).not.toEqual(alone);
    expect(of(dense('b', 3), 1)).not.toEqual(alone);
  });

  test('name every instruction after its layer', () => {
    const network = networks.cnn(10);
    const declared = network
      .init([28, 28, 1], 0)
      .parameters.map(({ name, value }, i) => parameter(i, value.shape, name));
    const x = parameter(declared.length, arrayShape('f32', [2, 28, 28, 1]), 'images');
    const titles = postOrder(network.apply(declared, x, 'default')).map((it) => it.name);
    expect(titles).not.toContain(undefined);
    expect(titles).toEqual(expect.arrayContaining(['conv2', 'relu3', 'pool', 'flatten']));
  });
});
