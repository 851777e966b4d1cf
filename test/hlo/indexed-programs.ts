import * as b from '../../src/hlo/build.ts';
import { gather, type Placing, scatter } from '../../src/hlo/build-gather.ts';
import { dynamicSlice, dynamicUpdateSlice } from '../../src/hlo/build-indexed.ts';
import type { HloInstruction } from '../../src/hlo/instruction.ts';
import { arrayShape } from '../../src/numerics/shape.ts';
import { type Draws, shapeOf } from './control-programs.ts';
import { numbers } from './type-lists.ts';

type Rule = (builder: Draws) => readonly HloInstruction[];

/** Rules of slices at computed places, for random programs. */
export const indexedRules: Readonly<
  Record<'dynamic-slice' | 'dynamic-update-slice' | 'gather' | 'scatter', Rule>
> = {
  'dynamic-slice': (builder) => {
    const x = builder.pick();
    return [dynamicSlice(x, startsOf(builder, x), sizesOf(builder, x))];
  },
  'dynamic-update-slice': (builder) => {
    const x = builder.pick();
    const update = builder.like(arrayShape(shapeOf(x).type, sizesOf(builder, x)));
    return [dynamicUpdateSlice(x, update, startsOf(builder, x))];
  },
  gather: (builder) => {
    const x = builder.pick(undefined, 1);
    if (shapeOf(x).dims[0] === 0) return [x];
    const indices = builder.like(arrayShape('s32', [1 + builder.draw(3)]));
    return [gather(x, indices, rowsOf(x), [1, ...shapeOf(x).dims.slice(1)])];
  },
  scatter: (builder) => {
    const x = builder.pick(numbers, 1);
    const { type, dims } = shapeOf(x);
    const count = 1 + builder.draw(3);
    const indices = builder.like(arrayShape('s32', [count]));
    const updates = builder.like(arrayShape(type, [count, ...dims.slice(1)]));
    return [scatter([x], indices, [updates], { ...rowsOf(x), body: b.adder(type) })];
  },
};

/** Places windows that are whole rows along the first dimension. */
function rowsOf(x: HloInstruction): Placing {
  const windowDims = shapeOf(x)
    .dims.slice(1)
    .map((_, d) => d + 1);
  return { windowDims, insertedDims: [0], indexMap: [0], indexVectorDim: 1 };
}

function sizesOf(builder: Draws, x: HloInstruction): number[] {
  return shapeOf(x).dims.map((size) => builder.draw(size + 1));
}

function startsOf(builder: Draws, x: HloInstruction): HloInstruction[] {
  return shapeOf(x).dims.map(() => builder.like(arrayShape('s32', [])));
}
