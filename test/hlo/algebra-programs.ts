import * as b from '../../src/hlo/build.ts';
import { cholesky, triangularSolve } from '../../src/hlo/build-linear-algebra.ts';
import * as norm from '../../src/hlo/build-normalization.ts';
import { partitionId, replicaId, stochasticConvert } from '../../src/hlo/build-random.ts';
import type { HloInstruction } from '../../src/hlo/instruction.ts';
import { assert, at } from '../../src/numerics/assert.ts';
import type { ElementType } from '../../src/numerics/element-type.ts';
import { type ArrayShape, arrayShape, isArray } from '../../src/numerics/shape.ts';
import { floats } from './type-lists.ts';

/** What the rules of this file need of the builder of a random program (programs.ts). */
interface Draws {
  readonly draw: (count: number) => number;
  readonly pick: (types?: readonly ElementType[], rankMin?: number) => HloInstruction;
  readonly like: (shape: ArrayShape) => HloInstruction;
  readonly dims: (rankMax: number, elementsMax?: number) => number[];
  readonly options: { readonly isPlain: boolean };
}

type Rule = (builder: Draws) => readonly HloInstruction[];

type Name =
  | 'batch-norm-training'
  | 'batch-norm-inference'
  | 'batch-norm-grad'
  | 'cholesky'
  | 'triangular-solve'
  | 'stochastic-convert'
  | 'replica-id'
  | 'partition-id';

/**
 * Rules of batch norms and matrices, of rounding at random, and of the numbers of replica and
 * partition. There are no batch norms and no matrices if XLA must get the same result, because other
 * orders of the sums may give results that are far apart.
 */
export const algebraRules: { readonly [O in Name]: Rule } = {
  'batch-norm-training': (builder) => {
    if (builder.options.isPlain) return [];
    const { x, feature, options } = drawnNorm(builder);
    const [scale, offset] = [builder.like(feature), builder.like(feature)];
    return elements(norm.batchNormTraining(x, scale, offset, options), 3);
  },
  'batch-norm-inference': (builder) => {
    if (builder.options.isPlain) return [];
    const { x, feature, options } = drawnNorm(builder);
    const affine = { scale: builder.like(feature), offset: builder.like(feature) };
    const moments = { mean: builder.like(feature), variance: builder.like(feature) };
    return [norm.batchNormInference(x, affine, moments, options)];
  },
  'batch-norm-grad': (builder) => {
    if (builder.options.isPlain) return [];
    const { x, feature, options } = drawnNorm(builder);
    const moments = { mean: builder.like(feature), variance: builder.like(feature) };
    const ct = builder.like(shapeOf(x));
    return elements(norm.batchNormGrad(x, builder.like(feature), moments, ct, options), 3);
  },
  cholesky: (builder) => {
    if (builder.options.isPlain) return [];
    return [cholesky(drawnMatrices(builder).a, builder.draw(2) === 0)];
  },
  'triangular-solve': (builder) => {
    if (builder.options.isPlain) return [];
    const { a, batch, n } = drawnMatrices(builder);
    const isLeftSide = builder.draw(2) === 0;
    const m = builder.draw(4);
    const size = isLeftSide ? [n, m] : [m, n];
    const x = builder.like(arrayShape(shapeOf(a).type, [...batch, ...size]));
    const transpose = at(['NO_TRANSPOSE', 'TRANSPOSE', 'ADJOINT'] as const, builder.draw(3));
    const [isLower, hasUnitDiagonal] = [builder.draw(2) === 0, builder.draw(2) === 0];
    return [triangularSolve(a, x, { isLeftSide, isLower, hasUnitDiagonal, transpose })];
  },
  'stochastic-convert': (builder) => {
    const x = builder.pick(['f32']);
    const type = at(['s32', 'bf16', 'f32'] as const, builder.options.isPlain ? 0 : builder.draw(3));
    return [stochasticConvert(x, builder.like(arrayShape('u32', shapeOf(x).dims)), type)];
  },
  'replica-id': () => [replicaId()],
  'partition-id': () => [partitionId()],
};

function drawnNorm(builder: Draws): {
  readonly x: HloInstruction;
  readonly feature: ArrayShape;
  readonly options: norm.BatchNormOptions;
} {
  const x = builder.pick(floats, 1);
  const { type, dims } = shapeOf(x);
  const featureIndex = builder.draw(dims.length);
  const epsilon = at([0.001, 0, 1e-5, 1], builder.draw(4));
  const feature = arrayShape(type, [at(dims, featureIndex)]);
  return { x, feature, options: { epsilon, featureIndex } };
}

function drawnMatrices(builder: Draws): {
  readonly a: HloInstruction;
  readonly batch: readonly number[];
  readonly n: number;
} {
  const n = builder.draw(5);
  const batch = builder.dims(2, 6);
  const { type } = shapeOf(builder.pick(floats));
  return { a: builder.like(arrayShape(type, [...batch, n, n])), batch, n };
}

function elements(it: HloInstruction, count: number): HloInstruction[] {
  return Array.from({ length: count }, (_, i) => b.getTupleElement(it, i));
}

function shapeOf({ shape }: HloInstruction): ArrayShape {
  assert(isArray(shape), 'the pool holds arrays');
  return shape;
}
