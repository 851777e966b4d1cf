import { at } from '../../numerics/assert.ts';
import { computedTypes, type ElementType, elementTypes } from '../../numerics/element-type.ts';
import { type ArrayShape, arrayShape, isArray, type Shape } from '../../numerics/shape.ts';
import { convolutionOf, dotOf } from '../evaluate/contraction.ts';
import { literalOf } from '../evaluate/value.ts';
import type { Draft, InstructionBase } from '../instruction.ts';
import { type Attribute, type Codec, field, integer, integers } from '../text/attribute.ts';
import { labelsText, readLabels } from '../text/labels.ts';
import { readChoice } from '../text/read.ts';
import { windowAttribute } from '../text/window.ts';
import type { ConvolutionDimensions, WindowDimension } from '../window.ts';
import {
  arrayOperand,
  expect,
  expectDistinct,
  expectOperands,
  expectWindow,
  isIndex,
  positionsOf,
} from './check.ts';
import type { Definition, DefinitionsOf } from './definition.ts';

/**
 * Precision of multiplications on the MXU. With `default`, f32 multiplicands are rounded to bf16
 * before they are multiplied, as on a TPU. With `highest`, they are multiplied in f32. Sums are f32
 * in both cases.
 */
export type Precision = 'default' | 'highest';

/** Operations that sum products. */
export type Contraction = Dot | Convolution;

/**
 * Roles of the dimensions of a dot's two operands. Each list has the indices of the dimensions with
 * one role. A dimension that is in no list is called free.
 */
export interface DotDimensions {
  readonly lhsBatch: readonly number[];
  readonly rhsBatch: readonly number[];
  readonly lhsContracting: readonly number[];
  readonly rhsContracting: readonly number[];
}

/**
 * Sums of products over the contracting dimensions. Operands: lhs, rhs. The result has, in this
 * order, the batch dimensions, the free dimensions of lhs and the free dimensions of rhs.
 */
export interface Dot extends InstructionBase<'dot'>, DotDimensions {
  readonly precision: Precision;
}

/** Sums of products over the window, the input features and their groups. Operands: input, kernel. */
export interface Convolution extends InstructionBase<'convolution'> {
  readonly window: readonly WindowDimension[];
  readonly dimensions: ConvolutionDimensions;
  readonly featureGroupCount: number;
  readonly batchGroupCount: number;
  readonly precision: Precision;
}

/** Precision of both operands. XLA's `high` is more than `default`, so it becomes `highest`. */
const precisionCodec: Codec<Precision> = {
  write: (value) => `{${value},${value}}`,
  read: (scanner) => {
    const words = scanner.list('{', '}', () => readChoice(scanner, ['default', 'high', 'highest']));
    return words.every((it) => it === 'default') ? 'default' : 'highest';
  },
};

function precision<I extends { readonly precision: Precision }>(): Attribute<I> {
  return field<I, 'precision'>('operand_precision', 'precision', precisionCodec, {
    otherwise: 'default',
    isWritten: (value) => value === 'highest',
  });
}

const none = { otherwise: [] };

const dot: Definition<Dot> = {
  family: 'contraction',
  attributes: [
    field('lhs_batch_dims', 'lhsBatch', integers, none),
    field('lhs_contracting_dims', 'lhsContracting', integers, none),
    field('rhs_batch_dims', 'rhsBatch', integers, none),
    field('rhs_contracting_dims', 'rhsContracting', integers, none),
    precision(),
  ],
  infer: dotShape,
  evaluate: (it, [lhs, rhs]) => dotOf(it, literalOf(lhs!), literalOf(rhs!)),
};

const labels: Codec<ConvolutionDimensions> = { write: labelsText, read: readLabels };
const groups = { otherwise: 1, isWritten: (count: number) => count > 1 };

const convolution: Definition<Convolution> = {
  family: 'contraction',
  attributes: [
    windowAttribute(),
    field('dim_labels', 'dimensions', labels),
    field('feature_group_count', 'featureGroupCount', integer, groups),
    field('batch_group_count', 'batchGroupCount', integer, groups),
    precision(),
  ],
  infer: convolutionShape,
  evaluate: (it, [input, kernel]) => convolutionOf(it, literalOf(input!), literalOf(kernel!)),
};

/** Definitions of {@link Contraction}. */
export const contractionDefinitions: DefinitionsOf<Contraction> = { dot, convolution };

function dotShape(it: Draft<Dot>): Shape {
  expectOperands(it, 2);
  const lhs = arrayOperand(it, 0);
  const rhs = arrayOperand(it, 1);
  const type = sumType(it, lhs, rhs);
  const lhsUsed = [...it.lhsBatch, ...it.lhsContracting];
  const rhsUsed = [...it.rhsBatch, ...it.rhsContracting];
  expectDistinct(it, lhsUsed, lhs.dims.length, 'dimensions of the left operand');
  expectDistinct(it, rhsUsed, rhs.dims.length, 'dimensions of the right operand');
  const paired = it.lhsBatch.length === it.rhsBatch.length && lhsUsed.length === rhsUsed.length;
  expect(it, paired, 'as many batch and contracting dimensions on both sides');
  const fits = lhsUsed.every((d, i) => lhs.dims[d] === rhs.dims[at(rhsUsed, i)]);
  expect(it, fits, 'batch and contracting dimensions of equal size on both sides');
  return arrayShape(type, [
    ...it.lhsBatch.map((d) => at(lhs.dims, d)),
    ...lhs.dims.filter((_, d) => !lhsUsed.includes(d)),
    ...rhs.dims.filter((_, d) => !rhsUsed.includes(d)),
  ]);
}

/**
 * Returns the element type of the sums of products: the stated one, or by default that of the
 * operands. The stated type may be wider than that of the operands, as in sums of s8 in s32.
 */
function sumType(it: Draft, lhs: ArrayShape, rhs: ArrayShape): ElementType {
  const { bits, kind } = elementTypes[lhs.type];
  const isNumber = kind === 'float' || kind === 'signed' || kind === 'unsigned';
  expect(it, isNumber, `elements that are integers or floats, not ${lhs.type}`);
  expect(it, lhs.type === rhs.type, 'operands of one element type');
  const stated = it.shape;
  if (stated === undefined || !isArray(stated) || stated.type === lhs.type) return lhs.type;
  const wide = elementTypes[stated.type];
  const isWider = wide.kind === kind && wide.bits > bits && computedTypes.includes(stated.type);
  expect(it, isWider, `sums of ${lhs.type} or of a wider type, not ${stated.type}`);
  return stated.type;
}

function convolutionShape(it: Draft<Convolution>): Shape {
  expectOperands(it, 2);
  const input = arrayOperand(it, 0);
  const kernel = arrayOperand(it, 1);
  const type = sumType(it, input, kernel);
  const { dimensions: of, window, featureGroupCount, batchGroupCount } = it;
  expectWindow(it, window);
  const rank = window.length + 2;
  expectRoles(it, input, rank, [of.inputBatch, of.inputFeature, ...of.inputSpatial]);
  const kernelRoles = [of.kernelInputFeature, of.kernelOutputFeature, ...of.kernelSpatial];
  expectRoles(it, kernel, rank, kernelRoles);
  const outputRoles = [of.outputBatch, of.outputFeature, ...of.outputSpatial];
  expect(it, outputRoles.length === rank, `${rank} output dimensions`);
  expectDistinct(it, outputRoles, rank, 'output dimensions');

  const sizes = of.kernelSpatial.map((d) => at(kernel.dims, d));
  const kernelFits = sizes.every((size, i) => size === at(window, i).size);
  expect(it, kernelFits, `a window of the kernel's size ${sizes.join('x')}`);
  const features = at(input.dims, of.inputFeature);
  const batch = at(input.dims, of.inputBatch);
  const outputs = at(kernel.dims, of.kernelOutputFeature);
  expectGroups(it, featureGroupCount, outputs);
  expectGroups(it, batchGroupCount, outputs);
  expect(
    it,
    featureGroupCount === 1 || batchGroupCount === 1,
    'feature groups or batch groups, not both',
  );
  const perGroup = at(kernel.dims, of.kernelInputFeature);
  expect(
    it,
    perGroup * featureGroupCount === features,
    `kernel input features ${perGroup} x ${featureGroupCount} groups = input features ${features}`,
  );
  expect(
    it,
    batch % batchGroupCount === 0,
    `a batch divisible by the batch group count ${batchGroupCount}`,
  );

  const dims = new Array<number>(rank).fill(0);
  dims[of.outputBatch] = batch / batchGroupCount;
  dims[of.outputFeature] = outputs;
  of.outputSpatial.forEach((d, i) => {
    dims[d] = positionsOf(it, at(input.dims, at(of.inputSpatial, i)), at(window, i));
  });
  return arrayShape(type, dims);
}

function expectRoles(it: Draft, array: ArrayShape, rank: number, roles: readonly number[]): void {
  const fits = array.dims.length === rank && roles.length === rank;
  expect(it, fits, `arrays of ${rank} dimensions, each with a role`);
  expectDistinct(it, roles, rank, 'dimensions');
}

function expectGroups(it: Draft, groups: number, outputs: number): void {
  const fits = isIndex(groups) && groups >= 1 && outputs % groups === 0;
  expect(it, fits, `output features ${outputs} divisible by the group count ${groups}`);
}
