import type { Reduce, ReduceWindow } from '../../hlo/instruction.ts';
import { at } from '../../numerics/assert.ts';
import type { ElementType } from '../../numerics/element-type.ts';
import { elementCount, product } from '../../numerics/shape.ts';
import { type Affine, constant } from '../codegen/affine.ts';
import { arrayOf, each, type Point, type Value } from '../codegen/value.ts';
import { positions, windowPlaces } from '../codegen/window.ts';
import type { ElementWriter } from './loop.ts';
import type { Lowerings } from './lowering.ts';

/**
 * Largest window, in positions, for which the code of a reduce-window is unrolled. For a larger
 * window the code has a loop over the positions.
 */
const unrolledPositions = 32;

/**
 * Largest window of a select-and-scatter, in positions. The limit bounds the size of the code,
 * which has a part for each position.
 */
const mostScatterPositions = 128;

/**
 * Lowering of the reductions. A reduce-window in the body of a reduction has a window of one
 * position, because the body has only scalars, so its code there has no loop.
 */
export const reduction: Lowerings<'reduce' | 'reduce-window' | 'select-and-scatter'> = {
  reduce: {
    loop: {
      elements: reduced,
      refusal: (it, { ofBody }) => ofBody(it.body),
      hasLoops: true,
    },
  },
  'reduce-window': {
    loop: {
      element: windowReduced,
      refusal: (it, { ofBody }) =>
        it.operands.length > 2 ? 'windows of several arrays' : ofBody(it.body),
    },
  },
  'select-and-scatter': {
    loop: {
      element: (it, point, to) => to.scattered(it, point),
      refusal: (it, { ofBody }) => {
        const size = product(it.window.map((window) => window.size));
        if (size > mostScatterPositions) return `a window of ${size} elements`;
        return ofBody(it.select) ?? ofBody(it.scatter);
      },
      hasLoops: true,
    },
  },
};

function reduced(it: Reduce, point: Point, to: ElementWriter): Value[] {
  const inputs = it.operands.slice(0, it.operands.length / 2);
  const inits = it.operands.slice(inputs.length);
  const { dims } = arrayOf(at(inputs, 0));
  const along = dims.map((_, d) => d).filter((d) => it.dimensions.includes(d));
  const pointWith = (offsets: readonly Affine[]): Affine[] => {
    let kept = 0;
    return dims.map((_, d) =>
      it.dimensions.includes(d) ? at(offsets, along.indexOf(d)) : at(point, kept++),
    );
  };
  const values = to.fold({
    it,
    point,
    sizes: along.map((d) => at(dims, d)),
    inits: inits.map((init) => to.valueOf(init, [])),
    body: it.body,
    elements: (offsets) => inputs.map((input) => to.valueOf(input, pointWith(offsets))),
    of: elementCount(arrayOf(at(inputs, 0))),
  });
  return values.map((value, n) => rounded(to, arrayOf(at(inputs, n)).type, value));
}

function windowReduced(it: ReduceWindow, point: Point, to: ElementWriter): Value {
  const input = at(it.operands, 0);
  const init = to.valueOf(at(it.operands, 1), []);
  const element = (offsets: readonly Affine[]): Value =>
    to.spread(input, windowPlaces(it.window, point, offsets), () => init);
  const shape = arrayOf(it);
  const sizes = it.window.map(({ size }) => size);
  if (product(sizes) <= unrolledPositions) {
    const folded = positions(sizes).reduce(
      (sum, offsets) => at(to.apply(it.body, [sum, element(offsets.map(constant))]), 0),
      init,
    );
    return rounded(to, shape.type, folded);
  }
  const [value] = to.fold({
    it,
    point,
    sizes,
    inits: [init],
    body: it.body,
    elements: (offsets) => [element(offsets)],
    of: elementCount(shape) * product(sizes),
  });
  return rounded(to, shape.type, value!);
}

function rounded({ lanes }: ElementWriter, type: ElementType, value: Value): Value {
  return each((x) => lanes.rounded(type, x), value);
}
