import type { HloInstruction } from '../../hlo/instruction.ts';
import { assert, at } from '../../numerics/assert.ts';
import { elementBytes } from '../../numerics/element-type.ts';
import { product, stridesOf } from '../../numerics/shape.ts';
import {
  type Affine,
  type Atom,
  coefficientOf,
  constant,
  isNonlinearIn,
  linear,
  plus,
  shifted,
  term,
  times,
  type Variable,
  variable,
} from './affine.ts';
import { Elements } from './element.ts';
import type { HelperName } from './helpers.ts';
import { largestFunction, Notes } from './notes.ts';
import { type Block, FunctionBuilder, type Node, type Store } from './ssa.ts';
import { arrayOf, type Merges, type Point, pick } from './value.ts';

/**
 * A target (output) of a fused loop, and the index of the function parameter that holds the byte
 * address of the target.
 */
export interface Target {
  readonly it: HloInstruction;
  readonly parameter: number;
}

/** State that all nests of one function share. */
export interface Context {
  readonly to: FunctionBuilder;
  readonly helpers: Set<HelperName>;
  readonly ids: Map<HloInstruction, number>;
}

/**
 * Largest number of boxes (parts of the iteration space) into which a nest is cut. Each box has
 * loops of its own.
 */
const mostBoxes = 27;
/**
 * Largest size of the code of all boxes of a nest together, in computed values. Each box (part of
 * the iteration space) repeats the loop body, so a nest with a large body is cut into fewer boxes.
 */
const mostInBoxes = 3_000;

/**
 * Writes loops that compute targets (outputs) of equal dimensions, in four steps:
 *
 * 1. Remove divisions. A reshape may need a quotient and a remainder of a loop counter i, such as
 *    ⌊i/8⌋ and i mod 8. Two counters a and b with i = 8·a + b then replace i: the quotient is a,
 *    and the remainder is b.
 * 2. Cut the iteration space into boxes. In each box, a padding check has the same result
 *    everywhere, so the code of the check can be left out.
 * 3. In each box, merge two nested loops into one if a single loop visits the same addresses.
 * 4. Write the innermost loop so that it computes four elements at a time in SIMD lanes.
 */
export function writeNest(context: Context, targets: readonly Target[]): void {
  const { dims } = arrayOf(at(targets, 0).it);
  if (product(dims) === 0) return;
  const whole = dims.map((size) => [size]);
  const factors = splitFactors(whole, explore(context, targets, boxOf(whole)).notes);
  const { notes, size } = explore(context, targets, boxOf(factors));
  for (const box of cutBoxes(factors, notes, size)) writeBox(context, targets, box);
}

/**
 * Writes plain loops over the targets (outputs), without optimization. The code is discarded. Its
 * only purpose is to fill `notes`, the record of what the code reads and computes.
 */
export function writeDraft(context: Context, targets: readonly Target[], notes: Notes): void {
  const { dims } = arrayOf(at(targets, 0).it);
  if (product(dims) === 0) return;
  writeLoops(context, targets, boxOf(dims.map((size) => [size])), notes, noMerges, [1]);
}

/**
 * Returns the row-major index of a target's element at a point, as an expression. Loads and stores
 * at equal indices can be recognized by the equal keys (texts) of their index expressions.
 */
export function indexOf(it: HloInstruction, point: Point): Affine {
  return linear(point, stridesOf(arrayOf(it).dims));
}

/**
 * Returns the point that a nest with one loop for each dimension visits: in dimension d, the index
 * is the counter of loop d.
 */
export function wholePoint(dims: readonly number[]): Point {
  return dimensionsOf(boxOf(dims.map((size) => [size]))).point;
}

/**
 * A part of the iteration space of a nest. Each dimension of the space is split into one or more
 * loop counters. `box[d]` has the ranges of the counters of dimension d, outermost first.
 */
export type Box = readonly (readonly Range[])[];
/** Values of a counter from `low` to `high` − 1. The counter's whole range is 0 to `size` − 1. */
export interface Range {
  readonly low: number;
  readonly high: number;
  readonly size: number;
}

/**
 * Returns the box that is the whole iteration space. `factors[d]` has the sizes of the loops over
 * dimension d, outermost first.
 */
export function boxOf(factors: readonly (readonly number[])[]): Box {
  return factors.map((list) => list.map((size) => ({ low: 0, high: size, size })));
}

/**
 * Returns the counters of a box, outermost first, and the point that they select. The range of a
 * counter in the box starts at `low`, but the counter itself counts from 0. So the point is
 * computed from counter + `low`.
 */
export function dimensionsOf(box: Box): {
  readonly counters: Variable[];
  readonly point: Affine[];
} {
  const counters: Variable[] = [];
  const point = box.map((ranges, d) => {
    const strides = stridesOf(ranges.map(({ size }) => size));
    return ranges.reduce((sum, { low, high }, f) => {
      const counter = variable(`i${d}.${f}`, high - low);
      counters.push(counter);
      return plus(sum, times(shifted(term(counter), low), at(strides, f)));
    }, constant(0));
  });
  return { counters, point };
}

/** Value of {@link Merges} for a nest in which no loops are merged. */
export const noMerges: Merges = { dropped: new Set(), trips: new Map() };

function explore(
  context: Context,
  targets: readonly Target[],
  box: Box,
): { readonly notes: Notes; readonly size: number } {
  const notes = new Notes('draft', largestFunction);
  const to = new FunctionBuilder(targets.reduce((n, { parameter }) => Math.max(n, parameter), 0));
  writeLoops({ ...context, to }, targets, box, notes, noMerges, [1]);
  return { notes, size: to.size };
}

function writeBox(context: Context, targets: readonly Target[], box: Box): void {
  const { notes, size } = explore(context, targets, box);
  assert(!notes.isTooLarge, 'the loop is larger than `supports` allows');
  const merges = mergesOf(notes);
  writeLoops(context, targets, box, new Notes('final'), merges, unrolls(notes, size));
}

/**
 * Returns the unroll factors of the innermost loop, largest first, ending with 1. An unroll factor
 * says how many SIMD vectors (four lanes each) one iteration computes.
 */
function unrolls(notes: Notes, size: number): number[] {
  const folds = notes.nests.length > 1;
  const most = folds
    ? [8, 4, 2].filter((n) => size * n <= 320)
    : [4, 2].filter((n) => size * n <= 200);
  return folds ? [...most, 1] : [...most.slice(0, 1), 1];
}

/**
 * Writes the loops of a box, without the loops that `merges` drops, and stores the elements of each
 * target.
 */
function writeLoops(
  context: Context,
  targets: readonly Target[],
  box: Box,
  notes: Notes,
  merges: Merges,
  unrollBy: readonly number[],
): void {
  const { to, helpers, ids } = context;
  const elements = new Elements(to, { helpers, notes, merges, ids });
  const { counters, point } = dimensionsOf(box);
  const isDense = (along: Variable): boolean =>
    targets.every(({ it }) => stepsByOne(indexOf(it, point), along));
  runNest(elements, counters, { unrollBy, isDense }, (block) => {
    const stores = targets.flatMap((target) => {
      const value = elements.valueOf(target.it, point);
      return storesAt(elements, target, point, (u) => pick(value, u));
    });
    to.store(block, stores);
  });
}

/** True if an index grows by 1 whenever the counter `along` grows by 1. */
export function stepsByOne(index: Affine, along: Variable): boolean {
  return coefficientOf(index, along) === 1 && !isNonlinearIn(index, along);
}

/** Options for the innermost loop of a nest. */
export interface InnermostLoopOptions {
  /**
   * Unroll factors, largest first. A factor says how many SIMD vectors (four lanes each) one
   * iteration computes.
   */
  readonly unrollBy: readonly number[];
  /**
   * True if four successive values of the innermost counter `along` may be computed in four SIMD
   * lanes. If false, an iteration computes one value.
   */
  readonly isDense: (along: Variable) => boolean;
}

/**
 * Writes nested loops over counters. The innermost loop may be split into successive segments, each
 * with its own number of values per iteration. `body` writes the content of each segment.
 */
export function runNest(
  elements: Elements,
  counters: readonly Variable[],
  pace: InnermostLoopOptions,
  body: (block: Block) => void,
): void {
  elements.notes.nest(counters);
  const running = counters.filter((counter) => elements.tripsOf(counter) > 1);
  const along = running.at(-1);
  elements.vector = { variable: along, width: 1, unroll: 1 };
  elements.nest(elements.to.root, running.slice(0, -1), (block) => {
    if (along === undefined) body(block);
    else runAlong(elements, along, pace, block, body);
  });
}

/**
 * Writes the innermost loop as successive segments. The first segment computes as many values of
 * the counter per iteration as `unrollBy` allows. Later segments compute fewer, for the values that
 * are left over.
 */
function runAlong(
  elements: Elements,
  along: Variable,
  { unrollBy, isDense }: InnermostLoopOptions,
  parent: Block,
  body: (block: Block) => void,
): void {
  const count = elements.tripsOf(along);
  const segments = isDense(along)
    ? unrollBy.map((unroll) => ({ width: 4 as const, unroll, step: 4 * unroll }))
    : [];
  let start = 0;
  for (const { width, unroll, step } of [...segments, { width: 1 as const, unroll: 1, step: 1 }]) {
    const limit = start + Math.floor((count - start) / step) * step;
    if (limit === start) continue;
    elements.vector = { variable: along, width, unroll };
    elements.to.loop(parent, { start, limit, step }, (block, counter) => {
      elements.bind(along, counter);
      body(block);
    });
    start = limit;
  }
}

/**
 * Returns the stores that write an element of a target at a point, for all lanes. `value(u)` is the
 * node of SIMD vector `u` (four lanes).
 */
export function storesAt(
  elements: Elements,
  { it, parameter }: Target,
  point: Point,
  value: (u: number) => Node,
): Store[] {
  const shape = arrayOf(it);
  const { width, unroll } = elements.vector;
  const address = elements.addressOf(elements.to.parameter(parameter), shape, indexOf(it, point));
  if (width === 1) return [elements.memory.storeOne(shape.type, address, value(0))];
  const bytes = 4 * elementBytes(shape.type);
  return Array.from({ length: unroll }, (_, u) =>
    elements.memory.storeFour(shape.type, address, bytes * u, value(u)),
  );
}

/**
 * Splits the loop over a dimension if the code divides the loop counter. For example, a counter i
 * has 24 values, and the code computes ⌊i / 8⌋ and i mod 8. Then two loops of 3 and 8 iterations
 * replace the loop: the counter of the first is the quotient, the counter of the second the
 * remainder.
 */
function splitFactors(whole: readonly (readonly number[])[], notes: Notes): number[][] {
  const cuts = new Map<string, Set<number>>();
  for (const { terms } of notes.uses.values()) {
    for (const { atom } of terms) collectCuts(atom, cuts);
  }
  return whole.map(([size], d) => factorsOf(size!, cuts.get(`i${d}.0`) ?? new Set()));
}

function collectCuts(atom: Atom, cuts: Map<string, Set<number>>): void {
  if (atom.kind !== 'quotient') return;
  for (const { atom: inner, coefficient } of atom.of.terms) {
    if (inner.kind !== 'variable' || coefficient <= 0) continue;
    const found = cuts.get(inner.key) ?? new Set<number>();
    cuts.set(inner.key, found);
    for (const period of [atom.divisor, atom.divisor * atom.modulus]) {
      const stride = period / coefficient;
      if (Number.isInteger(stride) && stride > 1) found.add(stride);
    }
  }
}

/**
 * Splits a loop of `size` iterations into nested loops and returns their sizes, outermost first.
 * `cuts` has the divisors by which the code divides the loop counter: size 24 with the divisor 8
 * gives [3, 8], size 24 with the divisors 2 and 8 gives [3, 4, 2]. The divisors are tried in
 * ascending order. A divisor is used only if it divides `size` and is a multiple of the last
 * divisor that was used.
 */
function factorsOf(size: number, cuts: ReadonlySet<number>): number[] {
  const factors: number[] = [];
  let stride = 1;
  for (const cut of [...cuts].sort((a, b) => a - b)) {
    if (cut >= size || cut % stride !== 0 || size % cut !== 0) continue;
    factors.unshift(cut / stride);
    stride = cut;
  }
  return [size / stride, ...factors];
}

/**
 * Cuts the iteration space into boxes. In each box, a guard (a range check of a position) that
 * depends on a single counter has a fixed result, so the code needs no check.
 */
function cutBoxes(factors: readonly (readonly number[])[], notes: Notes, size: number): Box[] {
  const cuts = factors.map((list, d) => list.map((n, f) => cutsOf(`i${d}.${f}`, n, notes)));
  const limit = Math.max(1, Math.min(mostBoxes, Math.floor(mostInBoxes / size)));
  const flat = cuts.flat();
  // While there are more than `limit` boxes, all cuts along one loop counter are dropped. The
  // guards of this counter are then checked at run time. The outermost counter is taken first,
  // because its guards are checked least often.
  while (flat.reduce((n, list) => n * (list.length + 1), 1) > limit) {
    flat.find((list) => list.length > 0)!.length = 0;
  }
  return cuts.reduce<Range[][][]>(
    (boxes, list, d) => {
      const ranges = list.reduce<Range[][]>(
        (all, its, f) =>
          all.flatMap((done) => rangesOf(at(at(factors, d), f), its).map((r) => [...done, r])),
        [[]],
      );
      return boxes.flatMap((box) => ranges.map((range) => [...box, range]));
    },
    [[]],
  );
}

function rangesOf(size: number, cuts: readonly number[]): Range[] {
  const ends = [...cuts, size];
  return ends.map((high, i) => ({ low: i === 0 ? 0 : at(ends, i - 1), high, size }));
}

/**
 * Returns the values of a counter at which the result of a guard (a range check of a position)
 * changes.
 */
function cutsOf(key: string, size: number, notes: Notes): number[] {
  const cuts = new Set<number>();
  for (const { place, last } of notes.guards) {
    const [only, ...others] = place.terms;
    if (only === undefined || others.length > 0 || only.atom.key !== key) continue;
    for (const bound of [0, last + 1]) {
      // `place` is coefficient · counter + constant. It equals `bound` where the counter has the
      // value `crossing`, which may be a fraction.
      const crossing = (bound - place.constant) / only.coefficient;
      cuts.add(only.coefficient > 0 ? Math.ceil(crossing) : Math.floor(crossing) + 1);
      if (only.coefficient < 0) cuts.add(Math.ceil(crossing));
    }
  }
  return [...cuts].filter((cut) => cut > 0 && cut < size).sort((a, b) => a - b);
}

/**
 * Finds pairs of loops, one directly inside the other, that can run as one loop. Let i be the
 * counter of the outer loop and j the counter of the inner loop, which has n iterations. The two
 * loops merge if every index expression contains i and j as c · (n·i + j), for some c.
 */
export function mergesOf(notes: Notes): Merges {
  const dropped = new Set<string>();
  const trips = new Map<string, number>();
  const sums = [...notes.uses.values()];
  for (const nest of notes.nests) {
    const running = nest.filter(({ high }) => high > 0);
    for (let i = running.length - 1; i > 0; i--) {
      const inner = at(running, i);
      const outer = at(running, i - 1);
      const merges = sums.every(
        (sum) => coefficientOf(sum, outer) === coefficientOf(sum, inner) * (inner.high + 1),
      );
      if (!merges) continue;
      dropped.add(outer.key);
      // The counter of the merged loop has the key of the inner counter. The next iteration tries
      // to merge this counter with the next outer counter.
      running[i - 1] = { ...inner, key: inner.key, high: (inner.high + 1) * (outer.high + 1) - 1 };
      trips.set(inner.key, (inner.high + 1) * (outer.high + 1));
    }
  }
  return { dropped, trips };
}
