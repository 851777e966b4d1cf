import { type ArrayShape, arrayShape, type Shape, sameShape } from '../../numerics/shape.ts';
import { dynamicSliceOf, dynamicUpdateSliceOf } from '../evaluate/indexed.ts';
import { literalOf } from '../evaluate/value.ts';
import type { Draft, InstructionBase } from '../instruction.ts';
import { field, integers } from '../text/attribute.ts';
import { arrayOperand, expect, expectKind, expectOperands, isIndex } from './check.ts';
import type { Definition, DefinitionsOf } from './definition.ts';

/** Operations that move elements to or from places that are computed at run time. */
export type Indexed = DynamicSlice | DynamicUpdateSlice;

/**
 * A slice of x. Operands: x, then the start along each dimension, as an integer scalar. A start is
 * clamped, so that the slice lies inside x.
 */
export interface DynamicSlice extends InstructionBase<'dynamic-slice'> {
  /** Size of the slice along each dimension. */
  readonly sizes: readonly number[];
}

/**
 * x with a slice replaced by `update`. Operands: x, update, then the start along each dimension, as
 * an integer scalar. A start is clamped, so that the slice lies inside x.
 */
export interface DynamicUpdateSlice extends InstructionBase<'dynamic-update-slice'> {}

const dynamicSlice: Definition<DynamicSlice> = {
  family: 'indexed',
  attributes: [field('dynamic_slice_sizes', 'sizes', integers)],
  infer: dynamicSliceShape,
  evaluate: ({ shape }, [x, ...starts]) =>
    dynamicSliceOf(shape, literalOf(x!), starts.map(literalOf)),
};

const dynamicUpdateSlice: Definition<DynamicUpdateSlice> = {
  family: 'indexed',
  infer: dynamicUpdateSliceShape,
  evaluate: (_, [x, update, ...starts]) =>
    dynamicUpdateSliceOf(literalOf(x!), literalOf(update!), starts.map(literalOf)),
};

/** Definitions of {@link Indexed}. */
export const indexedDefinitions: DefinitionsOf<Indexed> = {
  'dynamic-slice': dynamicSlice,
  'dynamic-update-slice': dynamicUpdateSlice,
};

function dynamicSliceShape(it: Draft<DynamicSlice>): Shape {
  expect(it, it.operands.length > 0, 'an array first');
  const x = arrayOperand(it, 0);
  expectStarts(it, 1, x);
  expect(it, it.sizes.length === x.dims.length, `${x.dims.length} dynamic_slice_sizes`);
  return expectInside(it, x, it.sizes);
}

function dynamicUpdateSliceShape(it: Draft<DynamicUpdateSlice>): Shape {
  expect(it, it.operands.length > 1, 'two arrays first');
  const [x, update] = [arrayOperand(it, 0), arrayOperand(it, 1)];
  const isAlike = update.type === x.type && update.dims.length === x.dims.length;
  expect(it, isAlike, 'an update of the type and rank of the array');
  expectStarts(it, 2, x);
  expectInside(it, x, update.dims);
  return x;
}

/** Expects one integer scalar for each dimension of `x`, all of one type, from operand `first` on. */
function expectStarts(it: Draft, first: number, { dims }: ArrayShape): void {
  expectOperands(it, first + dims.length);
  const starts = dims.map((_, d) => arrayOperand(it, first + d));
  for (const start of starts) {
    expectKind(it, 'integer', start);
    expect(it, sameShape(start, arrayShape(starts[0]!.type, [])), 'scalar starts of one type');
  }
}

function expectInside(it: Draft, x: ArrayShape, sizes: readonly number[]): ArrayShape {
  const fits = sizes.every((size, d) => isIndex(size) && size <= x.dims[d]!);
  expect(it, fits, 'a slice that is not larger than the array');
  return arrayShape(x.type, sizes);
}
