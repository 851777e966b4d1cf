import type { Concatenate, InstructionOf } from '../../hlo/instruction.ts';
import { assert, at } from '../../numerics/assert.ts';
import { type ArrayShape, stridesOf } from '../../numerics/shape.ts';
import { type Affine, linear, quotient, shifted, times } from '../codegen/affine.ts';
import { arrayOf, each, type Point, type Value } from '../codegen/value.ts';
import { converted } from './conversion.ts';
import type { ElementWriter, Loop } from './loop.ts';
import type { Lowerings } from './lowering.ts';

/*
 * Operations that move elements. The code of an element is the code of an element of an operand, at
 * another point.
 */

type Moving = 'broadcast' | 'transpose' | 'slice' | 'reverse';

/**
 * Lowering of the operations that move elements or count indices. Outside of loops, a reshape is a
 * name.
 */
export const rearranging: Lowerings<Moving | 'iota' | 'reshape' | 'pad' | 'concatenate'> = {
  iota: {
    loop: {
      element: (it, point, to) =>
        each(
          (index) => converted(to.lanes, index, 's32', it.shape.type),
          to.indexLanes(at(point, it.dimension)),
        ),
    },
  },
  broadcast: moved((it, point) => it.dimensions.map((d) => at(point, d))),
  reshape: {
    ...moved<'reshape'>((it, point) => reshaped(point, it.shape, arrayOf(at(it.operands, 0)))),
    name: (it, to) => to.valuesOf(at(it.operands, 0)),
  },
  transpose: moved((it, point) =>
    it.permutation.map((_, d) => at(point, it.permutation.indexOf(d))),
  ),
  slice: moved((it, point) =>
    point.map((index, d) => shifted(times(index, at(it.strides, d)), at(it.starts, d))),
  ),
  reverse: moved((it, point) =>
    point.map((index, d) =>
      it.dimensions.includes(d) ? shifted(times(index, -1), at(it.shape.dims, d) - 1) : index,
    ),
  ),
  pad: {
    loop: {
      element: (it, point, to) => {
        const places = point.map((index, d) => ({
          place: shifted(index, -at(it.low, d)),
          step: at(it.interior, d) + 1,
        }));
        const padding = (): Value => to.valueOf(at(it.operands, 1), []);
        return to.spread(at(it.operands, 0), places, padding);
      },
    },
  },
  concatenate: { loop: { element: concatenated } },
};

/**
 * Lowering of an opcode whose element at a point is the operand's element at another point, which
 * `from` returns.
 */
function moved<O extends Moving | 'reshape'>(
  from: (it: InstructionOf<O>, point: Point) => Point,
): { readonly loop: Loop<O> } {
  return {
    loop: { element: (it, point, to) => to.valueOf(at(it.operands, 0), from(it, point)) },
  };
}

function reshaped(point: Point, from: ArrayShape, to: ArrayShape): Affine[] {
  const flat = linear(point, stridesOf(from.dims));
  const strides = stridesOf(to.dims);
  return to.dims.map((size, d) => quotient(flat, at(strides, d), size));
}

/**
 * Returns the element of a concatenation. Begins with the last operand. Each earlier operand
 * replaces the value in the lanes whose place lies in it.
 */
function concatenated(it: Concatenate, point: Point, to: ElementWriter): Value {
  let value: Value | undefined;
  let start = at(it.shape.dims, it.dimension);
  for (const operand of it.operands.toReversed()) {
    start -= at(arrayOf(operand).dims, it.dimension);
    const places = point.map((index, d) => ({
      place: d === it.dimension ? shifted(index, -start) : index,
      step: 1,
    }));
    const found = to.locate(operand, places);
    if (found === undefined) continue;
    const own = to.valueOf(operand, found.point);
    const { inside } = found;
    value = value === undefined || inside === undefined ? own : to.select(inside, own, value);
  }
  assert(value !== undefined, 'a concatenation of nothing has no elements');
  return value;
}
