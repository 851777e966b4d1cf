import { dynamicSlice, dynamicUpdateSlice } from '../../src/hlo/build-indexed.ts';
import type { HloInstruction } from '../../src/hlo/instruction.ts';
import { arrayShape } from '../../src/numerics/shape.ts';
import { type Draws, shapeOf } from './control-programs.ts';

type Rule = (builder: Draws) => readonly HloInstruction[];

/** Rules of slices at computed places, for random programs. */
export const indexedRules: Readonly<Record<'dynamic-slice' | 'dynamic-update-slice', Rule>> = {
  'dynamic-slice': (builder) => {
    const x = builder.pick();
    return [dynamicSlice(x, startsOf(builder, x), sizesOf(builder, x))];
  },
  'dynamic-update-slice': (builder) => {
    const x = builder.pick();
    const update = builder.like(arrayShape(shapeOf(x).type, sizesOf(builder, x)));
    return [dynamicUpdateSlice(x, update, startsOf(builder, x))];
  },
};

function sizesOf(builder: Draws, x: HloInstruction): number[] {
  return shapeOf(x).dims.map((size) => builder.draw(size + 1));
}

function startsOf(builder: Draws, x: HloInstruction): HloInstruction[] {
  return shapeOf(x).dims.map(() => builder.like(arrayShape('s32', [])));
}
