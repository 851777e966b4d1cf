import {
  convert,
  convolution,
  dot,
  reshape,
  reverse,
  transpose,
  windowDimension,
} from '../hlo/build.ts';
import type {
  Convolution,
  ConvolutionDimensions,
  Dot,
  HloInstruction,
  WindowDimension,
} from '../hlo/instruction.ts';
import { withOperands } from '../hlo/traverse.ts';
import { at } from '../numerics/assert.ts';
import { elementCount } from '../numerics/shape.ts';
import { filled } from './fill.ts';
import { arrayOf, type Contribution, operand, toOperands } from './rule.ts';
import { dilated, indices, inverse, permuted } from './shape.ts';

/**
 * Returns the cotangents of both operands of a dot. Each cotangent is again a dot, with the
 * precision of the dot `it`. [JAX, dot_general]
 */
export function dotRule(it: Dot, ct: HloInstruction): Contribution[] {
  const wide = widened(it);
  return toOperands(
    it,
    () => ofType(dotByLhs(wide, ct), operand(it, 0)),
    () => ofType(dotByRhs(wide, ct), operand(it, 1)),
  );
}

/** Returns a contraction whose operands have the element type of its result. */
function widened<I extends Dot | Convolution>(it: I): I {
  return withOperands(
    it,
    it.operands.map((x) => ofType(x, it)),
  );
}

/** Converts `x` to the element type of `like`. */
function ofType(x: HloInstruction, like: HloInstruction): HloInstruction {
  const { type } = arrayOf(like);
  return arrayOf(x).type === type ? x : convert(x, type);
}

/**
 * Returns the cotangent of the left operand `lhs` of the dot `it`. A free dimension of an operand
 * is one that is neither a batch nor a contracting dimension of `it`.
 *
 * 1. A new dot of `ct` and rhs contracts the free dimensions of rhs. The result has the batch
 *    dimensions, the free dimensions of lhs, and the contracting dimensions of `it` in the order in
 *    which rhs has them.
 * 2. A transpose brings these dimensions to the order in which lhs has them.
 */
function dotByLhs(it: Dot, ct: HloInstruction): HloInstruction {
  const [lhs, rhs] = [operand(it, 0), operand(it, 1)];
  const lhsFree = freeOf(lhs, it.lhsBatch, it.lhsContracting);
  const rhsFree = freeOf(rhs, it.rhsBatch, it.rhsContracting);
  const product = dot(
    ct,
    rhs,
    {
      lhsBatch: indices(it.lhsBatch),
      rhsBatch: it.rhsBatch,
      lhsContracting: rhsFree.map((_, i) => it.lhsBatch.length + lhsFree.length + i),
      rhsContracting: rhsFree,
    },
    it.precision,
  );
  const contracted = inOrderOf(it.rhsContracting, it.lhsContracting);
  return permuted(product, inverse([...it.lhsBatch, ...lhsFree, ...contracted]));
}

/**
 * Returns the cotangent of the right operand `rhs` of the dot `it`. A free dimension of an operand
 * is one that is neither a batch nor a contracting dimension of `it`.
 *
 * 1. A new dot of lhs and `ct` contracts the free dimensions of lhs. The result has the batch
 *    dimensions, the contracting dimensions of `it` in the order in which lhs has them, and the
 *    free dimensions of rhs.
 * 2. A transpose brings these dimensions to the order in which rhs has them.
 */
function dotByRhs(it: Dot, ct: HloInstruction): HloInstruction {
  const [lhs, rhs] = [operand(it, 0), operand(it, 1)];
  const lhsFree = freeOf(lhs, it.lhsBatch, it.lhsContracting);
  const rhsFree = freeOf(rhs, it.rhsBatch, it.rhsContracting);
  const product = dot(
    lhs,
    ct,
    {
      lhsBatch: it.lhsBatch,
      rhsBatch: indices(it.lhsBatch),
      lhsContracting: lhsFree,
      rhsContracting: lhsFree.map((_, i) => it.lhsBatch.length + i),
    },
    it.precision,
  );
  const contracted = inOrderOf(it.lhsContracting, it.rhsContracting);
  return permuted(product, inverse([...it.rhsBatch, ...contracted, ...rhsFree]));
}

function freeOf(
  x: HloInstruction,
  batch: readonly number[],
  contracting: readonly number[],
): number[] {
  return indices(arrayOf(x).dims).filter((d) => !batch.includes(d) && !contracting.includes(d));
}

/**
 * Returns `partners`, sorted by the dimensions to which they belong, lowest dimension first.
 * `partners[i]` belongs to the dimension `dimensions[i]`.
 */
function inOrderOf(dimensions: readonly number[], partners: readonly number[]): number[] {
  const order = indices(dimensions).toSorted((a, b) => at(dimensions, a) - at(dimensions, b));
  return order.map((i) => at(partners, i));
}

/**
 * Returns the cotangents of a convolution's two operands. Each cotangent is again a convolution:
 *
 * - Cotangent of the input: `ct` is convolved with the kernel. The input features and the output
 *   features of the kernel are swapped, and the window is reversed.
 * - Cotangent of the kernel: the input is convolved with `ct`. The batch dimensions of the input
 *   and of `ct` take the place of the input features, so that the new convolution sums over the
 *   batch.
 *
 * These changes copy no array: they are attributes of the new convolution (dimension numbers and
 * windows). Only a convolution with groups needs copies. [JAX, conv_general_dilated]
 */
export function convolutionRule(it: Convolution, ct: HloInstruction): Contribution[] {
  if (elementCount(it.shape) === 0) {
    return toOperands(it, ...it.operands.map((x) => () => filled(x, 0)));
  }
  const wide = widened(it);
  return toOperands(
    it,
    () => ofType(convolutionByInput(wide, ct), operand(it, 0)),
    () => ofType(convolutionByKernel(wide, ct), operand(it, 1)),
  );
}

function convolutionByInput(it: Convolution, ct: HloInstruction): HloInstruction {
  const { dimensions: of, batchGroupCount } = it;
  const groups = it.featureGroupCount * batchGroupCount;
  const kernel = moveGroups(operand(it, 1), groups, of.kernelOutputFeature, of.kernelInputFeature);
  const result = convolution(ct, kernel, {
    window: it.window.map((w, i) => inputWindow(w, sizesOf(it, i))),
    dimensions: inputDimensions(of),
    featureGroupCount: groups,
    precision: it.precision,
  });
  return moveGroups(result, batchGroupCount, of.inputFeature, of.inputBatch);
}

/**
 * Returns the window of the convolution that computes the cotangent of the input. Placed at an
 * element of the input, this window covers all outputs that depend on the element.
 */
function inputWindow(w: WindowDimension, { input, output }: Sizes): WindowDimension {
  const reach = dilated(w.size, w.windowDilation);
  const padLow = reach - 1 - w.padLow;
  const total = dilated(input, w.baseDilation) + reach - 1 - dilated(output, w.stride);
  return {
    size: w.size,
    stride: w.baseDilation,
    padLow,
    padHigh: total - padLow,
    baseDilation: w.stride,
    windowDilation: w.windowDilation,
    reversal: !w.reversal,
  };
}

function inputDimensions(of: ConvolutionDimensions): ConvolutionDimensions {
  return {
    inputBatch: of.outputBatch,
    inputFeature: of.outputFeature,
    inputSpatial: of.outputSpatial,
    kernelInputFeature: of.kernelOutputFeature,
    kernelOutputFeature: of.kernelInputFeature,
    kernelSpatial: of.kernelSpatial,
    outputBatch: of.inputBatch,
    outputFeature: of.inputFeature,
    outputSpatial: of.inputSpatial,
  };
}

function convolutionByKernel(it: Convolution, ct: HloInstruction): HloInstruction {
  const { dimensions: of } = it;
  const result = convolution(operand(it, 0), ct, {
    window: it.window.map((w, i) => kernelWindow(w, sizesOf(it, i))),
    dimensions: kernelDimensions(of),
    featureGroupCount: it.batchGroupCount,
    batchGroupCount: it.featureGroupCount,
    precision: it.precision,
  });
  const reversed = of.kernelSpatial.filter((_, i) => at(it.window, i).reversal);
  return reversed.length === 0 ? result : reverse(result, reversed);
}

/**
 * Returns the window of the convolution that computes the cotangent of the kernel. In this
 * convolution `ct` takes the place of the kernel and slides over the input. The stride of the
 * window is the window dilation of the original convolution.
 */
function kernelWindow(w: WindowDimension, { input, output }: Sizes): WindowDimension {
  const total =
    dilated(output, w.stride) +
    dilated(w.size, w.windowDilation) -
    1 -
    dilated(input, w.baseDilation);
  return windowDimension({
    size: output,
    stride: w.windowDilation,
    padLow: w.padLow,
    padHigh: total - w.padLow,
    baseDilation: w.baseDilation,
    windowDilation: w.stride,
  });
}

function kernelDimensions(of: ConvolutionDimensions): ConvolutionDimensions {
  return {
    inputBatch: of.inputFeature,
    inputFeature: of.inputBatch,
    inputSpatial: of.inputSpatial,
    kernelInputFeature: of.outputBatch,
    kernelOutputFeature: of.outputFeature,
    kernelSpatial: of.outputSpatial,
    outputBatch: of.kernelInputFeature,
    outputFeature: of.kernelOutputFeature,
    outputSpatial: of.kernelSpatial,
  };
}

/** How many elements the input and the output have along one spatial dimension. */
interface Sizes {
  readonly input: number;
  readonly output: number;
}

function sizesOf(it: Convolution, spatial: number): Sizes {
  const { inputSpatial, outputSpatial } = it.dimensions;
  return {
    input: at(arrayOf(operand(it, 0)).dims, at(inputSpatial, spatial)),
    output: at(it.shape.dims, at(outputSpatial, spatial)),
  };
}

/**
 * Moves the group index from dimension `from` of `x` to dimension `to`. In both dimensions the
 * group is the major part of the index. The size of `from` is divided by `groups`, and the size of
 * `to` is multiplied by `groups`.
 */
function moveGroups(x: HloInstruction, groups: number, from: number, to: number): HloInstruction {
  if (groups === 1) return x;
  const { dims } = arrayOf(x);
  const rest = at(dims, from) / groups;
  const split = reshape(x, dims.toSpliced(from, 1, groups, rest));
  const place = (d: number) => (d > from ? d + 1 : d === from ? from + 1 : d);
  const permutation = indices(dims).flatMap((d) => (d === to ? [from, place(d)] : [place(d)]));
  const merged = dims.map((size, d) => (d === from ? rest : d === to ? size * groups : size));
  return reshape(transpose(split, permutation), merged);
}
