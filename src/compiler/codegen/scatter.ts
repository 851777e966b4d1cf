import type { SelectAndScatter, WindowDimension } from '../../hlo/instruction.ts';
import { at } from '../../numerics/assert.ts';
import { elementBytes } from '../../numerics/element-type.ts';
import { product } from '../../numerics/shape.ts';
import { constant, type Variable } from './affine.ts';
import { Elements } from './element.ts';
import {
  boxOf,
  type Context,
  dimensionsOf,
  indexOf,
  noMerges,
  runNest,
  stepsByOne,
  storesAt,
  type Target,
} from './nest.ts';
import { Notes } from './notes.ts';
import type { Block, Node } from './ssa.ts';
import { arrayOf, each, type Point, pick, type Value } from './value.ts';
import { positions, windowPlaces } from './window.ts';

/** True if the windows of a select-and-scatter cover every element of the operand exactly once. */
export function tilesExactly(it: SelectAndScatter): boolean {
  const source = arrayOf(at(it.operands, 1)).dims;
  return it.window.every(
    (window, d) =>
      window.padLow === 0 &&
      window.baseDilation === 1 &&
      window.windowDilation === 1 &&
      window.stride === window.size &&
      at(source, d) * window.stride === at(it.shape.dims, d),
  );
}

/**
 * Writes a loop over the windows of a select-and-scatter whose windows tile its operand (cover each
 * element exactly once). Each iteration handles one window. For each point of the window, the
 * iteration computes the element of the select-and-scatter and then the elements of all targets at
 * this point. The targets must have the dimensions of the select-and-scatter. An element of a
 * target may use only the element of the select-and-scatter at the same point.
 */
export function writeTiles(
  context: Context,
  it: SelectAndScatter,
  targets: readonly Target[],
  notes: Notes = new Notes('final'),
): void {
  const source = at(it.operands, 1);
  if (product(arrayOf(source).dims) === 0) return;
  const elements = elementsOf(context, notes);
  const { counters, point } = dimensionsOf(boxOf(arrayOf(source).dims.map((size) => [size])));
  runWindows(elements, it, counters, point, (block, windows) => {
    const init = elements.valueOf(at(it.operands, 2), []);
    const scattered = scatteredTo(elements, it, init, elements.valueOf(source, point));
    for (const window of windows) {
      const value = each((m, s, i) => elements.lanes.select(m, s, i), window.mask, scattered, init);
      elements.define(it, window.point, value);
    }
    const stores = windows.flatMap((window) =>
      targets.flatMap((target) => {
        const value = elements.valueOf(target.it, window.point);
        return storesAt(elements, target, window.point, (u) => pick(value, u));
      }),
    );
    context.to.store(block, stores);
  });
}

/**
 * Writes a select-and-scatter with any windows. First fills the target with the initial value. Then
 * visits the windows, one for each element of the source. Each window selects one element of the
 * operand. The window's element of the source is combined into the target, at the place of the
 * selected element.
 */
export function writeScatter(
  context: Context,
  it: SelectAndScatter,
  target: Target,
  notes: Notes = new Notes('final'),
): void {
  const elements = elementsOf(context, notes);
  fill(elements, it, target);
  const source = at(it.operands, 1);
  if (product(arrayOf(source).dims) === 0) return;
  const { counters, point } = dimensionsOf(boxOf(arrayOf(source).dims.map((size) => [size])));
  runWindows(elements, it, counters, point, (block, windows) => {
    const from = elements.valueOf(source, point);
    for (const { point: place, mask, inside } of windows) {
      const before = currentOf(elements, target, place, block);
      const after = scatteredTo(elements, it, before, from);
      const value = each((m, a, b) => elements.lanes.select(m, a, b), mask, after, before);
      const when = inside === undefined ? undefined : elements.lanes.extract(at(inside, 0), 0);
      context.to.store(
        block,
        storesAt(elements, target, place, (u) => pick(value, u)),
        when,
      );
    }
  });
}

/**
 * One element of a window. `point` is its place in the operand. `mask` has the SIMD lanes in which
 * `select` chooses this element.
 */
interface WindowElement {
  readonly point: Point;
  readonly mask: Value;
  /**
   * Mask that is false in all lanes if this element is padding in the current window, and true in
   * all lanes otherwise. Undefined if the element is padding in no window.
   */
  readonly inside: Value | undefined;
}

function elementsOf({ to, helpers, ids }: Context, notes: Notes): Elements {
  return new Elements(to, { helpers, notes, merges: noMerges, ids });
}

function fill(elements: Elements, it: SelectAndScatter, target: Target): void {
  const { counters, point } = dimensionsOf(boxOf([[product(it.shape.dims)]]));
  if (product(it.shape.dims) === 0) return;
  const flat = { ...it, shape: { type: it.shape.type, dims: [product(it.shape.dims)] } };
  runNest(elements, counters, { unrollBy: [4, 1], isDense: () => true }, (block) => {
    const init = each(
      (x) => elements.lanes.rounded(it.shape.type, x),
      elements.valueOf(at(it.operands, 2), []),
    );
    const stores = storesAt(elements, { ...target, it: flat }, point, (u) => pick(init, u));
    elements.to.store(block, stores);
  });
}

/**
 * Writes loops that visit the windows in row-major order. The SIMD lanes compute neighbouring
 * windows along the innermost dimension if the window has size and stride 1 there, without padding
 * or dilation. In all other cases an iteration handles one window.
 */
function runWindows(
  elements: Elements,
  it: SelectAndScatter,
  counters: readonly Variable[],
  point: Point,
  body: (block: Block, windows: readonly WindowElement[]) => void,
): void {
  const isDense = (along: Variable): boolean => {
    const d = counters.findIndex(({ key }) => key === along.key);
    return isTrivial(at(it.window, d)) && stepsByOne(indexOf(it, point), along);
  };
  runNest(elements, counters, { unrollBy: [2, 1], isDense }, (block) =>
    body(block, selectedOf(elements, it, point)),
  );
}

/**
 * Returns the elements of a window. Each element has a mask of the lanes in which it is the
 * selected element. The code visits the elements in row-major order. It calls `select` with two
 * elements: the one selected so far and the next one. Where `select` returns false, the next one
 * becomes the selected element.
 */
function selectedOf(elements: Elements, it: SelectAndScatter, point: Point): WindowElement[] {
  const { lanes } = elements;
  const operand = at(it.operands, 0);
  const none: Value = [lanes.bits(-1)];
  const found: { number: Value; place: Point; inside: Value | undefined }[] = [];
  let chosen = none;
  let best: Value | undefined;
  for (const [k, offset] of positions(it.window.map(({ size }) => size)).entries()) {
    const offsets = offset.map(constant);
    const located = elements.locate(operand, windowPlaces(it.window, point, offsets));
    if (located === undefined) continue;
    const number: Value = [lanes.bits(k)];
    const value = elements.valueOf(operand, located.point);
    let take = located.inside;
    if (best !== undefined) {
      const keeps = at(elements.apply(it.select, [best, value]), 0);
      const beats = each(
        (c, n, keep) => lanes.op('or', lanes.op('i32x4Eq', c, n), lanes.op('not', keep)),
        ...[chosen, none, keeps],
      );
      take = take === undefined ? beats : each((a, b) => lanes.op('and', a, b), take, beats);
    }
    const choose = (mask: Value | undefined, yes: Value, no: Value): Value =>
      mask === undefined ? yes : each((m, y, n) => lanes.select(m, y, n), mask, yes, no);
    chosen = choose(take, number, chosen);
    best = best === undefined ? value : choose(take, value, best);
    found.push({ number, place: located.point, inside: located.inside });
  }
  return found.map(({ number, place, inside }) => ({
    point: place,
    mask: each((c, n) => lanes.op('i32x4Eq', c, n), chosen, number),
    inside,
  }));
}

function scatteredTo(elements: Elements, it: SelectAndScatter, to: Value, from: Value): Value {
  const [sum] = elements.apply(it.scatter, [to, from]);
  return each((x) => elements.lanes.rounded(it.shape.type, x), sum!);
}

/**
 * Loads the elements at a point from the memory of a target. The load is repeated in each run of
 * `block`, because earlier iterations store to the target.
 */
function currentOf(
  elements: Elements,
  { it, parameter }: Target,
  point: Point,
  block: Block,
): Value {
  const { memory, vector } = elements;
  const shape = arrayOf(it);
  const address = elements.addressOf(elements.to.parameter(parameter), shape, indexOf(it, point));
  if (vector.width === 1) return [memory.loadOne(shape.type, address, block)];
  const bytes = 4 * elementBytes(shape.type);
  return Array.from(
    { length: vector.unroll },
    (_, u): Node => memory.loadFour(shape.type, address, bytes * u, block),
  );
}

function isTrivial(window: WindowDimension): boolean {
  const { size, stride, padLow, padHigh, baseDilation } = window;
  return size === 1 && stride === 1 && padLow === 0 && padHigh === 0 && baseDilation === 1;
}
