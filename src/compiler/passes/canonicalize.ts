import {
  concatenate,
  convert,
  convolution,
  full,
  pad,
  scalar,
  slice,
  transpose,
} from '../../hlo/build.ts';
import { expandedBatchNorm } from '../../hlo/expand-batch-norm.ts';
import type {
  BatchNorm,
  Convolution,
  Dot,
  HloInstruction,
  HloModule,
  WindowDimension,
} from '../../hlo/instruction.ts';
import { familyOf } from '../../hlo/ops.ts';
import { mapInstructions, withOperands } from '../../hlo/traverse.ts';
import { at } from '../../numerics/assert.ts';
import { elementTypes } from '../../numerics/element-type.ts';
import { type ArrayShape, arrayShape, elementCount, isArray } from '../../numerics/shape.ts';
import { withoutCalls } from './calls.ts';
import { canonicalCollective } from './collectives.ts';

/**
 * Changes every dot and convolution so that one matmul can compute it. The matmul finds the
 * elements of its operands with tables of offsets. Also inlines calls, replaces a batch norm by
 * sums, products and so on, and rewrites collectives so that the links can run them
 * ({@link canonicalCollective}). `replicas` is the number of replicas of the slice, if it is known.
 * After this pass:
 *
 * - No instruction of the entry computation is a call or a batch norm.
 * - All operands of dots and convolutions of floats are f32.
 * - A convolution of floats has no padding, no dilated input and no groups. The output feature is the first
 *   or last dimension of its result.
 *
 * Strides, dilated windows, reversed windows and the order of dimensions stay, because the tables
 * can express them.
 */
export function canonicalize(
  module: HloModule,
  { replicas }: { readonly replicas?: number | undefined } = {},
): HloModule {
  const entry = mapInstructions(withoutCalls(module.entry), (it, operands) => {
    const now = withOperands(it, operands);
    if (now.opcode === 'dot') return canonicalDot(now);
    if (now.opcode === 'convolution') return canonicalConvolution(now);
    if (isBatchNorm(now)) return expandedBatchNorm(now);
    return canonicalCollective(now, replicas);
  });
  return { ...module, entry };
}

function isBatchNorm(it: HloInstruction): it is BatchNorm {
  return familyOf(it) === 'normalization';
}

function canonicalDot(it: Dot): HloInstruction {
  const { dims } = arrayShapeOf(at(it.operands, 0));
  if (it.lhsContracting.some((d) => dims[d] === 0)) return full(it.shape.type, it.shape.dims, 0);
  return isOfF32(it) || !isOfFloats(it) ? it : throughF32(it);
}

function canonicalConvolution(it: Convolution): HloInstruction {
  if (!isOfFloats(it)) return it;
  if (!isOfF32(it)) {
    const wide = throughF32(it);
    return withOperands(wide, [canonicalConvolution(at(wide.operands, 0) as Convolution)]);
  }
  const depth = arrayShapeOf(at(it.operands, 1)).dims[it.dimensions.kernelInputFeature];
  if (elementCount(it.shape) === 0 || depth === 0) return full('f32', it.shape.dims, 0);
  if (it.batchGroupCount > 1) return splitGroups(it, it.batchGroupCount, 'batch');
  if (it.featureGroupCount > 1) return splitGroups(it, it.featureGroupCount, 'feature');
  return featureAtTheEdge(explicitPadding(it));
}

/** True if a dot or convolution multiplies floats. The MXU multiplies nothing else. */
function isOfFloats({ shape }: Dot | Convolution): boolean {
  return elementTypes[shape.type].kind === 'float';
}

function isOfF32({ shape, operands }: Dot | Convolution): boolean {
  return shape.type === 'f32' && operands.every((x) => arrayShapeOf(x).type === 'f32');
}

/**
 * Converts the operands of a dot or convolution to f32, and converts the f32 result to the type of
 * the original instruction, so that the result is rounded only once.
 */
function throughF32(it: Dot | Convolution): HloInstruction {
  const operands = it.operands.map((x) => labelled(convert(x, 'f32'), it, 'f32'));
  const wide = { ...it, shape: { ...it.shape, type: 'f32' as const } };
  return labelled(convert(withOperands(wide, operands), it.shape.type), it, 'rounded');
}

/**
 * Replaces a convolution with groups by one convolution for each group. The results are
 * concatenated along the output feature.
 */
function splitGroups(it: Convolution, groups: number, kind: 'batch' | 'feature'): HloInstruction {
  const of = it.dimensions;
  const inputDimension = kind === 'batch' ? of.inputBatch : of.inputFeature;
  const parts = Array.from({ length: groups }, (_, group) => {
    const input = part(at(it.operands, 0), inputDimension, group, groups);
    const kernel = part(at(it.operands, 1), of.kernelOutputFeature, group, groups);
    const { window, dimensions, precision } = it;
    return canonicalConvolution(
      labelled(convolution(input, kernel, { window, dimensions, precision }), it, `${group}`),
    );
  });
  return labelled(concatenate(parts, of.outputFeature), it, 'groups');
}

/** Returns part `index` of `x` after cutting `x` into `count` equal parts along a dimension. */
function part(x: HloInstruction, dimension: number, index: number, count: number): HloInstruction {
  const { dims } = arrayShapeOf(x);
  const size = at(dims, dimension) / count;
  const starts = dims.map((_, d) => (d === dimension ? index * size : 0));
  const limits = dims.map((n, d) => (d === dimension ? (index + 1) * size : n));
  return slice(x, starts, limits);
}

/**
 * Replaces the padding and the input dilation of a convolution's window by a `pad` instruction that
 * adds zeros.
 */
function explicitPadding(it: Convolution): Convolution {
  if (it.window.every(isSolid)) return it;
  const [input, kernel] = [at(it.operands, 0), at(it.operands, 1)];
  const none = arrayShapeOf(input).dims.map(() => 0);
  const [low, high, interior] = [[...none], [...none], [...none]];
  it.window.forEach((w, i) => {
    const d = at(it.dimensions.inputSpatial, i);
    low[d] = w.padLow;
    high[d] = w.padHigh;
    interior[d] = w.baseDilation - 1;
  });
  const padded = labelled(pad(input, scalar('f32', 0), { low, high, interior }), it, 'pad');
  const window = it.window.map((w) => ({ ...w, padLow: 0, padHigh: 0, baseDilation: 1 }));
  return { ...it, window, operands: [padded, kernel] };
}

function isSolid({ padLow, padHigh, baseDilation }: WindowDimension): boolean {
  return padLow === 0 && padHigh === 0 && baseDilation === 1;
}

/**
 * Returns a convolution whose output feature is the first or last dimension of the result. A matmul
 * needs this, because the output feature must be either the rows or the columns of its result. If
 * the output feature of `it` is already first or last, returns `it`. Otherwise moves the output
 * feature to the end, and adds a transpose that restores the order of the dimensions of `it`.
 */
function featureAtTheEdge(it: Convolution): HloInstruction {
  const of = it.dimensions;
  const last = it.shape.dims.length - 1;
  if (of.outputFeature === 0 || of.outputFeature === last) return it;
  const moved = (d: number): number =>
    d === of.outputFeature ? last : d - +(d > of.outputFeature);
  const dimensions = {
    ...of,
    outputBatch: moved(of.outputBatch),
    outputFeature: last,
    outputSpatial: of.outputSpatial.map(moved),
  };
  const { window, precision } = it;
  const [input, kernel] = [at(it.operands, 0), at(it.operands, 1)];
  const dense = labelled(convolution(input, kernel, { window, dimensions, precision }), it);
  return labelled(
    transpose(
      dense,
      it.shape.dims.map((_, d) => moved(d)),
    ),
    it,
    'transpose',
  );
}

function arrayShapeOf(x: HloInstruction): ArrayShape {
  return isArray(x.shape) ? x.shape : arrayShape('f32', []);
}

/**
 * Returns `x` with the name of the instruction `of`, plus an optional suffix. `x` is one of the
 * instructions that replace `of`.
 */
function labelled<T extends HloInstruction>(x: T, of: HloInstruction, suffix?: string): T {
  if (of.name === undefined) return x;
  return { ...x, name: suffix === undefined ? of.name : `${of.name}/${suffix}` };
}
