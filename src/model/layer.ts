import { filled } from '../autodiff/fill.ts';
import { namer } from '../autodiff/name.ts';
import { arrayOf } from '../autodiff/rule.ts';
import {
  add,
  broadcast,
  convolution,
  matmul,
  maximizer,
  maximum,
  reduceWindow,
  reshape,
  scalar,
  windowDimension,
} from '../hlo/build.ts';
import type { HloInstruction, Precision, WindowDimension } from '../hlo/instruction.ts';
import { postOrder } from '../hlo/traverse.ts';
import { assert, at } from '../numerics/assert.ts';
import { PodError } from '../numerics/error.ts';
import { literal, type NamedLiteral } from '../numerics/literal.ts';
import { stream, uniformLiteral } from '../numerics/random.ts';
import { arrayShape, product } from '../numerics/shape.ts';

/** A part of a network, as HLO: a function of parameters and of a batch of examples. */
export interface Layer {
  /** How many parameters `apply` takes. */
  readonly parameters: number;
  /**
   * Returns the initial parameters for examples of size `inputDims` (without the batch dimension).
   * Random values depend only on the seed and on the name of the parameter.
   */
  init(inputDims: readonly number[], seed: number): Initial;
  /**
   * Returns the layer's output, f32[batch, …outputDims], for the input `x`, f32[batch, …inputDims].
   */
  apply(
    parameters: readonly HloInstruction[],
    x: HloInstruction,
    precision: Precision,
  ): HloInstruction;
}

/** Initial parameters of a layer, and the size of its output for one example. */
export interface Initial {
  readonly parameters: readonly NamedLiteral[];
  readonly outputDims: readonly number[];
}

/** Options of a dense layer. */
export interface DenseOptions {
  /**
   * Standard deviation of the initial weights. Default: the standard deviation of He et al., 2015.
   */
  readonly deviation?: number;
}

/**
 * A dense layer, x · kernel + bias. For each example, its input is a vector of features, and its
 * output is a vector of `units` features.
 */
export function dense(name: string, units: number, { deviation }: DenseOptions = {}): Layer {
  return {
    parameters: 2,
    init: (inputDims, seed) => {
      assert(inputDims.length === 1, `${name} takes vectors, found [${inputDims.join()}]`);
      const fanIn = at(inputDims, 0);
      const kernel =
        deviation === undefined
          ? heUniform(`${name}/kernel`, [fanIn, units], fanIn, seed)
          : centred(`${name}/kernel`, [fanIn, units], deviation * Math.sqrt(3), seed);
      return { parameters: [kernel, zeros(`${name}/bias`, [units])], outputDims: [units] };
    },
    apply: layerOf(name, (parameters, x, precision) => {
      const y = matmul(x, at(parameters, 0), precision);
      return addBias(y, at(parameters, 1));
    }),
  };
}

/** Options of a convolution layer. */
export interface Conv2dOptions {
  /** Stride along both dimensions. Default: 1. */
  readonly stride?: number;
  /**
   * `valid` (default): no padding; windows lie completely inside the image. `same`: zeros are added
   * around the image, so that the output has the size of the image if the stride is 1.
   */
  readonly padding?: 'valid' | 'same';
}

/**
 * A convolution of images [rows, columns, channels], plus a bias. Its kernel has the dimensions
 * [rows, columns, input channels, output channels].
 */
export function conv2d(
  name: string,
  features: number,
  size: readonly [number, number],
  options: Conv2dOptions = {},
): Layer {
  const { stride = 1, padding = 'valid' } = options;
  const windowOf = (image: readonly number[]): WindowDimension[] =>
    size.map((extent, d) => slidingWindow(at(image, d), extent, stride, padding));
  return {
    parameters: 2,
    init: (inputDims, seed) => {
      const channels = channelsOf(name, inputDims);
      const spatial = outputSize(name, inputDims, windowOf(inputDims));
      const fanIn = product(size) * channels;
      const kernel = heUniform(`${name}/kernel`, [...size, channels, features], fanIn, seed);
      const bias = zeros(`${name}/bias`, [features]);
      return { parameters: [kernel, bias], outputDims: [...spatial, features] };
    },
    apply: layerOf(name, (parameters, x, precision) => {
      const window = windowOf(arrayOf(x).dims.slice(1));
      const options = { window, dimensions: imageDimensions, precision };
      return addBias(convolution(x, at(parameters, 0), options), at(parameters, 1));
    }),
  };
}

/**
 * Position of each dimension. Images are [batch, rows, columns, features]. Kernels are [rows,
 * columns, input features, output features]. In the notation of XLA this is b01f_01io->b01f.
 */
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
};

/**
 * A max-pooling layer: the maximum of each window, separately for each channel. Windows lie side by
 * side. Elements at the edge that do not fill a window are ignored.
 */
export function maxPool(name: string, size: readonly [number, number]): Layer {
  const window = size.map((extent) => windowDimension({ size: extent, stride: extent }));
  return {
    parameters: 0,
    init: (inputDims) => {
      const channels = channelsOf(name, inputDims);
      return { parameters: [], outputDims: [...outputSize(name, inputDims, window), channels] };
    },
    apply: layerOf(name, (_, x) => {
      const one = windowDimension({ size: 1 });
      const init = scalar('f32', -Infinity);
      return reduceWindow(x, init, [one, ...window, one], maximizer('f32'));
    }),
  };
}

/** A layer that applies a rectified linear unit, maximum(x, 0), to each element. */
export function relu(name: string): Layer {
  return {
    parameters: 0,
    init: (inputDims) => ({ parameters: [], outputDims: inputDims }),
    apply: layerOf(name, (_, x) => maximum(x, filled(x, 0))),
  };
}

/** A layer that turns each example into a vector, in row-major order. */
export function flatten(name: string): Layer {
  return {
    parameters: 0,
    init: (inputDims) => ({ parameters: [], outputDims: [product(inputDims)] }),
    apply: layerOf(name, (_, x) => {
      const [batch, ...dims] = arrayOf(x).dims;
      assert(batch !== undefined, `${name} takes a batch`);
      return reshape(x, [batch, product(dims)]);
    }),
  };
}

/**
 * A layer that applies `layers` one after another. Its parameters are the parameters of all these
 * layers, in the same order.
 */
export function sequential(...layers: readonly Layer[]): Layer {
  return {
    parameters: layers.reduce((count, layer) => count + layer.parameters, 0),
    init: (inputDims, seed) => {
      let outputDims = inputDims;
      const parameters = layers.flatMap((layer) => {
        const initial = layer.init(outputDims, seed);
        outputDims = initial.outputDims;
        return initial.parameters;
      });
      return { parameters, outputDims };
    },
    apply: (parameters, x, precision) => {
      let first = 0;
      return layers.reduce((y, layer) => {
        const own = parameters.slice(first, first + layer.parameters);
        first += layer.parameters;
        return layer.apply(own, y, precision);
      }, x);
    },
  };
}

/**
 * Returns a function that calls `apply` and names what `apply` makes: each new instruction without
 * a name gets the name of the layer.
 */
function layerOf(name: string, apply: Layer['apply']): Layer['apply'] {
  return (parameters, x, precision) => {
    const y = apply(parameters, x, precision);
    return namer(postOrder([x, ...parameters]))(y, name);
  };
}

/**
 * Returns random initial weights, uniform between −√(6/fanIn) and √(6/fanIn). `fanIn` is the number
 * of inputs on which one output depends. With these limits, and a ReLU after each layer, the
 * variance of the activations stays about the same from layer to layer. [He et al., 2015]
 */
function heUniform(
  name: string,
  dims: readonly number[],
  fanIn: number,
  seed: number,
): NamedLiteral {
  return centred(name, dims, Math.sqrt(6 / fanIn), seed);
}

/** Returns random values, uniform between −limit and limit. */
function centred(name: string, dims: readonly number[], limit: number, seed: number): NamedLiteral {
  const bound = Math.fround(limit);
  const value = uniformLiteral(arrayShape('f32', dims), stream(seed, name), -bound, bound);
  return { name, value };
}

function zeros(name: string, dims: readonly number[]): NamedLiteral {
  return { name, value: literal('f32', dims, new Float32Array(product(dims))) };
}

/**
 * Adds `bias` to the features of `y`, one value for each feature. Features are the last dimension.
 */
function addBias(y: HloInstruction, bias: HloInstruction): HloInstruction {
  const { dims } = arrayOf(y);
  return add(y, broadcast(bias, dims, [dims.length - 1]));
}

function slidingWindow(
  image: number,
  size: number,
  stride: number,
  padding: 'valid' | 'same',
): WindowDimension {
  if (padding === 'valid') return windowDimension({ size, stride });
  const padded = (Math.ceil(image / stride) - 1) * stride + size;
  const total = Math.max(0, padded - image);
  const padLow = Math.floor(total / 2);
  return windowDimension({ size, stride, padLow, padHigh: total - padLow });
}

function channelsOf(name: string, dims: readonly number[]): number {
  assert(
    dims.length === 3,
    `${name} takes images [rows, columns, channels], found [${dims.join()}]`,
  );
  return at(dims, 2);
}

function outputSize(
  name: string,
  image: readonly number[],
  window: readonly WindowDimension[],
): number[] {
  return window.map(({ size, stride, padLow, padHigh }, d) => {
    const room = at(image, d) + padLow + padHigh - size;
    if (room >= 0) return Math.floor(room / stride) + 1;
    const [windowText, imageText] = [window.map((w) => w.size), image.slice(0, 2)].map((sizes) =>
      sizes.join('×'),
    );
    throw new PodError(
      'bad-config',
      `${name}: expected an image of at least ${windowText}, found ${imageText}`,
    );
  });
}
