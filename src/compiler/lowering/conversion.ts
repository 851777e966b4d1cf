import { at } from '../../numerics/assert.ts';
import { type ElementType, elementTypes } from '../../numerics/element-type.ts';
import { bitsFromF32 } from '../../numerics/f32-ops.ts';
import { type FloatFormat, reducePrecision } from '../../numerics/reduce-precision.ts';
import type { Lanes } from '../codegen/lanes.ts';
import type { Node } from '../codegen/ssa.ts';
import { arrayOf, each } from '../codegen/value.ts';
import { type ByKind, forType, integers } from './by-kind.ts';
import { arrayRefusal, operandElement } from './loop.ts';
import type { Lowerings } from './lowering.ts';

/** Lowering of changes of the element type, and of the precision within a type. */
export const conversion: Lowerings<'convert' | 'bitcast-convert' | 'reduce-precision'> = {
  convert: {
    loop: {
      element: (it, point, to) => {
        const from = arrayOf(at(it.operands, 0)).type;
        const x = operandElement(it, 0, point, to);
        return each((node) => converted(to.lanes, node, from, it.shape.type), x);
      },
    },
  },
  'bitcast-convert': {
    loop: {
      element: (it, point, to) => operandElement(it, 0, point, to),
      refusal: (it) => {
        const { type } = arrayOf(at(it.operands, 0));
        const isAsWide = elementTypes[type].bits === elementTypes[it.shape.type].bits;
        return isAsWide ? arrayRefusal(it.shape) : `a bitcast of ${type} to ${it.shape.type}`;
      },
    },
  },
  'reduce-precision': {
    loop: {
      element: (it, point, to) => {
        const { type } = it.shape;
        const code = forType(reduced, type, it.opcode);
        const x = operandElement(it, 0, point, to);
        return each((node) => to.lanes.rounded(type, code(to.lanes, node, it)), x);
      },
    },
  },
};

/** Code of `reduce-precision`, without the last rounding. */
const reduced: ByKind<(lanes: Lanes, x: Node, format: FloatFormat) => Node> = {
  float: (lanes, x, format) => reducePrecision(lanes.f32, x, format),
};

/** Writes a conversion without the last rounding. `zero` is a v128 of zeros. */
type Conversion = (lanes: Lanes, x: Node, zero: Node) => Node;

const same: Conversion = (_, x) => x;
const integerToPred: Conversion = (lanes, x, zero) => lanes.op('i32x4Ne', x, zero);

/** Conversions from each kind of elements, except pred, to each kind. */
const conversions: ByKind<ByKind<Conversion>> = {
  float: {
    float: same,
    signed: (lanes, x) => lanes.op('i32x4TruncSatF32x4S', x),
    unsigned: (lanes, x) => lanes.op('i32x4TruncSatF32x4U', x),
    pred: (lanes, x, zero) => lanes.op('f32x4Ne', x, zero),
  },
  signed: {
    float: (lanes, x) => lanes.op('f32x4ConvertI32x4S', x),
    ...integers(same),
    pred: integerToPred,
  },
  unsigned: {
    float: (lanes, x) => lanes.op('f32x4ConvertI32x4U', x),
    ...integers(same),
    pred: integerToPred,
  },
};

/** Conversions from pred, a mask, to each kind. They need no rounding, because 0 and 1 are exact. */
const fromPred: ByKind<(lanes: Lanes, mask: Node) => Node> = {
  float: (lanes, mask) => lanes.op('and', mask, lanes.bits(bitsFromF32(1))),
  ...integers((lanes: Lanes, mask: Node) => lanes.op('and', mask, lanes.bits(1))),
  pred: (_, mask) => mask,
};

/**
 * Returns the code that converts elements of the type `from` to the type `to`.
 *
 * The constant zero is written for every conversion, also for one that does not use it. The number
 * and order of written values decide how loops are unrolled and in which order code stands. So
 * without the unused constant, some loops would get other bytes.
 */
export function converted(lanes: Lanes, x: Node, from: ElementType, to: ElementType): Node {
  const what = `convert from ${from} to elements`;
  if (elementTypes[from].kind === 'pred') return forType(fromPred, to, what)(lanes, x);
  const code = forType(forType(conversions, from, 'convert'), to, what);
  return lanes.rounded(to, code(lanes, x, lanes.bits(0)));
}
