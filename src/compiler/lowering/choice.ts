import type { Compare } from '../../hlo/instruction.ts';
import { at } from '../../numerics/assert.ts';
import type { ElementType } from '../../numerics/element-type.ts';
import type { Lanes } from '../codegen/lanes.ts';
import type { Node } from '../codegen/ssa.ts';
import { arrayOf, each } from '../codegen/value.ts';
import type { SimdOpcode } from '../codegen/wasm.ts';
import { type ByKind, forType } from './by-kind.ts';
import { maximumCode, minimumCode } from './elementwise.ts';
import { arrayRefusal, operandElement } from './loop.ts';
import type { Lowerings } from './lowering.ts';

/*
 * Comparisons and choices. Results have the same bits as the results of
 * hlo/evaluate/elementwise.ts.
 */

type Comparisons = { readonly [D in Compare['direction']]: SimdOpcode };

const floatComparisons: Comparisons = {
  EQ: 'f32x4Eq',
  NE: 'f32x4Ne',
  LT: 'f32x4Lt',
  LE: 'f32x4Le',
  GT: 'f32x4Gt',
  GE: 'f32x4Ge',
};
const signedComparisons: Comparisons = {
  EQ: 'i32x4Eq',
  NE: 'i32x4Ne',
  LT: 'i32x4LtS',
  LE: 'i32x4LeS',
  GT: 'i32x4GtS',
  GE: 'i32x4GeS',
};
const unsignedComparisons: Comparisons = {
  EQ: 'i32x4Eq',
  NE: 'i32x4Ne',
  LT: 'i32x4LtU',
  LE: 'i32x4LeU',
  GT: 'i32x4GtU',
  GE: 'i32x4GeU',
};

/**
 * SIMD instruction of each comparison. A pred is a mask and is compared as unsigned, so that true
 * (all ones) is greater than false (0).
 */
const comparisons: ByKind<Comparisons> = {
  float: floatComparisons,
  signed: signedComparisons,
  unsigned: unsignedComparisons,
  pred: unsignedComparisons,
};

/** Lowering of comparisons and choices. */
export const choice: Lowerings<'compare' | 'select' | 'clamp'> = {
  compare: {
    loop: {
      element: (it, point, to) => {
        const { type } = arrayOf(at(it.operands, 0));
        const code = forType(comparisons, type, it.opcode)[it.direction];
        const a = operandElement(it, 0, point, to);
        const b = operandElement(it, 1, point, to);
        return each((x, y) => to.lanes.op(code, x, y), a, b);
      },
      refusal: ({ shape, order }) =>
        order === 'total' ? 'a comparison in total order' : arrayRefusal(shape),
    },
  },
  select: {
    loop: {
      element: (it, point, to) => {
        const mask = operandElement(it, 0, point, to);
        const onTrue = operandElement(it, 1, point, to);
        return to.select(mask, onTrue, operandElement(it, 2, point, to));
      },
    },
  },
  clamp: {
    loop: {
      element: (it, point, to) => {
        const clamp = clampTo(to.lanes, it.shape.type);
        const low = operandElement(it, 0, point, to);
        const x = operandElement(it, 1, point, to);
        return each(clamp, low, x, operandElement(it, 2, point, to));
      },
    },
  },
};

/** Returns a function that writes min(max(low, x), high) on elements of the given type. */
function clampTo(lanes: Lanes, type: ElementType): (...operands: Node[]) => Node {
  const larger = forType(maximumCode, type, 'clamp');
  const smaller = forType(minimumCode, type, 'clamp');
  return (low, x, high) => {
    const above = lanes.rounded(type, larger(lanes, low!, x!));
    return lanes.rounded(type, smaller(lanes, above, high!));
  };
}
