import { at } from '../../numerics/assert.ts';
import { roundToBf16 } from '../../numerics/bf16.ts';
import { elementTypes, type Scalar } from '../../numerics/element-type.ts';
import { type Literal, literalFrom, scalarsOf } from '../../numerics/literal.ts';
import { elementCount, otherDimensions, stridesOf } from '../../numerics/shape.ts';
import { tpuV2 } from '../../spec/tpu-v2.ts';
import type { Convolution, Dot, Precision } from '../instruction.ts';
import { windowElement } from '../window.ts';
import { forEachIndex, numbersOf, offsetsAlong } from './value.ts';

/**
 * Number of products in one tile. A sum of products is cut into tiles. One column of the MXU adds
 * the products of a tile. The accumulators of the MXU then add the sums of the tiles.
 */
const tileDepth = tpuV2.mxuSide;

/**
 * Returns the sum over k of lhs[bases.lhs + lhsAt[k]] · rhs[bases.rhs + rhsAt[k]]. If `lhsAt[k]` is
 * negative, the element of lhs is padding, with the value 0.
 */
type SumOfProducts = (
  lhsAt: ArrayLike<number>,
  rhsAt: ArrayLike<number>,
  bases: { readonly lhs: number; readonly rhs: number },
) => Scalar;

/** Returns the sum of products of a contraction, in the arithmetic of the type of its result. */
function sumsOf(it: Dot | Convolution, lhs: Literal, rhs: Literal): SumOfProducts {
  const { bits, kind } = elementTypes[it.shape.type];
  if (kind === 'float') {
    return floatSums(multiplicands(lhs, it.precision), multiplicands(rhs, it.precision));
  }
  return bits === 64
    ? wideSums(scalarsOf(lhs).map(BigInt), scalarsOf(rhs).map(BigInt))
    : integerSums(numbersOf(lhs), numbersOf(rhs));
}

/**
 * Sums in f32. The products are taken in the order of k and cut into tiles of `tileDepth`. Each tile
 * is summed by itself; then the sums of the tiles are added.
 */
function floatSums(lhs: Float64Array, rhs: Float64Array): SumOfProducts {
  return (lhsAt, rhsAt, bases) => {
    let total = 0;
    for (let start = 0; start < lhsAt.length; start += tileDepth) {
      const end = Math.min(start + tileDepth, lhsAt.length);
      let tile = 0;
      for (let k = start; k < end; k++) {
        const a = lhsAt[k]! < 0 ? 0 : lhs[bases.lhs + lhsAt[k]!]!;
        tile = Math.fround(tile + product(a, rhs[bases.rhs + rhsAt[k]!]!));
      }
      total = Math.fround(total + tile);
    }
    return total;
  };
}

/**
 * Sums for integers of at most 32 bits. Only the lowest 32 bits of a sum are right; higher bits would
 * not fit into the result.
 */
function integerSums(lhs: Float64Array, rhs: Float64Array): SumOfProducts {
  return (lhsAt, rhsAt, bases) => {
    let total = 0;
    for (let k = 0; k < lhsAt.length; k++) {
      if (lhsAt[k]! < 0) continue;
      total = (total + Math.imul(lhs[bases.lhs + lhsAt[k]!]!, rhs[bases.rhs + rhsAt[k]!]!)) | 0;
    }
    return total;
  };
}

/** Exact sums of 64-bit integers. */
function wideSums(lhs: readonly bigint[], rhs: readonly bigint[]): SumOfProducts {
  return (lhsAt, rhsAt, bases) => {
    let total = 0n;
    for (let k = 0; k < lhsAt.length; k++) {
      if (lhsAt[k]! < 0) continue;
      total += lhs[bases.lhs + lhsAt[k]!]! * rhs[bases.rhs + rhsAt[k]!]!;
    }
    return total;
  };
}

/**
 * Returns the product of two f32 numbers, rounded to f32. f64 has enough bits for the exact
 * product. If the magnitude of the exact product is below 2^-126, the smallest normal f32, the
 * result is +0, because the MXU has no subnormal numbers.
 */
function product(a: number, b: number): number {
  const exact = a * b;
  return Math.abs(exact) < 2 ** -126 ? 0 : Math.fround(exact);
}

/**
 * Returns the elements as the MXU multiplies them: rounded to bf16 with precision `default`,
 * unchanged with precision `highest`.
 */
function multiplicands(it: Literal, precision: Precision): Float64Array {
  const values = numbersOf(it);
  return precision === 'default' ? values.map(roundToBf16) : values;
}

/**
 * Evaluates a dot. The products are added in the order that docs/ARCHITECTURE.md defines ("Order of
 * sums").
 */
export function dotOf(it: Dot, lhs: Literal, rhs: Literal): Literal {
  const sum = sumsOf(it, lhs, rhs);
  const lhsDims = lhs.shape.dims;
  const rhsDims = rhs.shape.dims;
  const lhsBatch = offsetsAlong(lhsDims, it.lhsBatch);
  const rhsBatch = offsetsAlong(rhsDims, it.rhsBatch);
  const rows = offsetsAlong(
    lhsDims,
    otherDimensions(lhsDims.length, [...it.lhsBatch, ...it.lhsContracting]),
  );
  const columns = offsetsAlong(
    rhsDims,
    otherDimensions(rhsDims.length, [...it.rhsBatch, ...it.rhsContracting]),
  );
  const lhsDepth = offsetsAlong(lhsDims, it.lhsContracting);
  const rhsDepth = offsetsAlong(rhsDims, it.rhsContracting);
  return literalFrom(it.shape, (i) => {
    const column = at(columns, i % columns.length);
    const row = at(rows, Math.floor(i / columns.length) % rows.length);
    const batch = Math.floor(i / columns.length / rows.length);
    const bases = { lhs: at(lhsBatch, batch) + row, rhs: at(rhsBatch, batch) + column };
    return sum(lhsDepth, rhsDepth, bases);
  });
}

/**
 * Evaluates a convolution. Each element of the result is a sum of products. The sum goes through
 * the positions in the window in row-major order, with the dimensions in the order of
 * `kernelSpatial`. At each position, it goes through the input features of the element's feature
 * group. If a dimension of the window is reversed, this order stays the same. But along that
 * dimension, the first position then belongs to the last element of the kernel, and so on.
 */
export function convolutionOf(it: Convolution, input: Literal, kernel: Literal): Literal {
  const { dimensions: of, window } = it;
  const sum = sumsOf(it, input, kernel);
  const inputStrides = stridesOf(input.shape.dims);
  const kernelStrides = stridesOf(kernel.shape.dims);
  const perGroup = at(kernel.shape.dims, of.kernelInputFeature);
  const outputs = at(kernel.shape.dims, of.kernelOutputFeature);
  const batchPerGroup = at(input.shape.dims, of.inputBatch) / it.batchGroupCount;
  const windowSizes = window.map(({ size }) => size);

  const kernelDepth: number[] = [];
  forEachIndex(windowSizes, (offset) => {
    const place = offset.reduce((sum, n, i) => {
      const { size, reversal } = at(window, i);
      return sum + (reversal ? size - 1 - n : n) * at(kernelStrides, at(of.kernelSpatial, i));
    }, 0);
    for (let f = 0; f < perGroup; f++) {
      kernelDepth.push(place + f * at(kernelStrides, of.kernelInputFeature));
    }
  });

  const values = new Array<Scalar>(elementCount(it.shape));
  forEachIndex(it.shape.dims, (index, flat) => {
    const output = index[of.outputFeature]!;
    const featureGroup = Math.floor(output / (outputs / it.featureGroupCount));
    const batchGroup = Math.floor(output / (outputs / it.batchGroupCount));
    const image = batchGroup * batchPerGroup + index[of.outputBatch]!;
    const bases = {
      lhs:
        image * at(inputStrides, of.inputBatch) +
        featureGroup * perGroup * at(inputStrides, of.inputFeature),
      rhs: output * at(kernelStrides, of.kernelOutputFeature),
    };
    values[flat] = sum(inputDepth(index), kernelDepth, bases);
  });
  return literalFrom(it.shape, (i) => values[i]!);

  /**
   * Lists the elements of the input from which one element of the result is computed, in the order
   * in which their products are added. `index` has the indices of the element of the result. An
   * entry of the list is −1 for padding. Otherwise it is the offset of an element of the input,
   * counted from the first element that the image has in the feature group.
   */
  function inputDepth(index: readonly number[]): number[] {
    const depth: number[] = [];
    forEachIndex(windowSizes, (offset) => {
      const place = offset.reduce((sum, n, i) => {
        const d = at(of.inputSpatial, i);
        const position = index[at(of.outputSpatial, i)]!;
        const element = windowElement(position, n, at(input.shape.dims, d), at(window, i));
        return sum < 0 || element < 0 ? -1 : sum + element * at(inputStrides, d);
      }, 0);
      for (let f = 0; f < perGroup; f++) {
        depth.push(place < 0 ? -1 : place + f * at(inputStrides, of.inputFeature));
      }
    });
    return depth;
  }
}
