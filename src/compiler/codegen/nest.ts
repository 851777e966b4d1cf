import type { HloInstruction } from '../../hlo/instruction.ts';
import { assert, at } from '../../numerics/assert.ts';
import { elementBytes } from '../../numerics/element-type.ts';
import { product, stridesOf } from '../../numerics/shape.ts';
import {
  type Affine,
  type Atom,
  bends,
  coefficientOf,
  constant,
  linear,
  plus,
  shifted,
  term,
  times,
  type Variable,
  variable,
} from './affine.ts';
import { arrayOf, Elements, type Merges, type Point, pick } from './element.ts';
import type { HelperName } from './helpers.ts';
import { largestFunction, Notes } from './notes.ts';
import { type Block, FunctionBuilder, type Node, type Store } from './ssa.ts';

/** One target of a loop: the array, and the number of the function's parameter with its address. */
export interface Target {
  readonly it: HloInstruction;
  readonly parameter: number;
}

/** What all nests of a function share. */
export interface Context {
  readonly to: FunctionBuilder;
  readonly helpers: Set<HelperName>;
  readonly ids: Map<HloInstruction, number>;
}

/** How many boxes a nest may be cut into, each with a loop of its own. */
const mostBoxes = 27;
/** Values in all boxes together, beyond which a nest is not cut. */
const mostInBoxes = 3_000;

/**
 * Writes loops that compute targets of one size. The dimensions are split where reshapes need it;
 * the space is cut into boxes within which every guard of padding is decided; in each box loops
 * that no access can tell apart are merged, and the innermost runs four lanes at a time.
 */
export function writeNest(context: Context, targets: readonly Target[]): void {
  const { dims } = arrayOf(at(targets, 0).it);
  if (product(dims) === 0) return;
  const whole = dims.map((size) => [size]);
  const factors = splitFactors(whole, explore(context, targets, boxOf(whole)).notes);
  const { notes, size } = explore(context, targets, boxOf(factors));
  for (const box of cutBoxes(factors, notes, size)) writeBox(context, targets, box);
}

/** Loops over the targets without any cleverness, written for what they ask for. */
export function writeDraft(context: Context, targets: readonly Target[], notes: Notes): void {
  const { dims } = arrayOf(at(targets, 0).it);
  if (product(dims) === 0) return;
  writeLoops(context, targets, boxOf(dims.map((size) => [size])), notes, noMerges, [1]);
}

/** Where a target stores its element at a point; equal to that of a load of the same element. */
export function indexOf(it: HloInstruction, point: Point): Affine {
  return linear(point, stridesOf(arrayOf(it).dims));
}

/** The point of a nest that covers whole dimensions. */
export function wholePoint(dims: readonly number[]): Point {
  return dimensionsOf(boxOf(dims.map((size) => [size]))).point;
}

/** For each dimension, for each of its factors (outermost first): the counters it covers. */
export type Box = readonly (readonly Range[])[];
/** Whole numbers from `low` up to, and without, `high`; `size` is the number of all of the counter. */
export interface Range {
  readonly low: number;
  readonly high: number;
  readonly size: number;
}

/** The box of all values of all counters. */
export function boxOf(factors: readonly (readonly number[])[]): Box {
  return factors.map((list) => list.map((size) => ({ low: 0, high: size, size })));
}

/** Counters of a box, and the point they stand for. */
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

/** No dimensions are joined. */
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

/** How many quadruples of lanes to take at a time, the most first; the last is 1. */
function unrolls(notes: Notes, size: number): number[] {
  const folds = notes.nests.length > 1;
  const most = folds
    ? [8, 4, 2].filter((n) => size * n <= 320)
    : [4, 2].filter((n) => size * n <= 200);
  return folds ? [...most, 1] : [...most.slice(0, 1), 1];
}

/** Opens the loops of a box, those that are left after merging, and stores each target's elements. */
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

/** Does an index grow by one with the counter? */
export function stepsByOne(index: Affine, along: Variable): boolean {
  return coefficientOf(index, along) === 1 && !bends(index, along);
}

/** How the innermost loop of a nest runs. */
export interface Pace {
  /** Quadruples of lanes to take at a time, the most first. */
  readonly unrollBy: readonly number[];
  /** May four counts of this innermost counter go in four lanes? */
  readonly isDense: (along: Variable) => boolean;
}

/** Nested loops over counters; `body` is written for each way in which the innermost runs. */
export function runNest(
  elements: Elements,
  counters: readonly Variable[],
  pace: Pace,
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

/** The innermost loop, in segments: as many lanes as possible at a time, then the rest. */
function runAlong(
  elements: Elements,
  along: Variable,
  { unrollBy, isDense }: Pace,
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

/** Stores a value for each quadruple of the vector at the place of a point in a target. */
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

/** Cuts each dimension into factors so that quotients of its counter become counters. */
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

/** Sizes whose strides are the given cuts, as far as each divides the next. */
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

/** Boxes within which guards that look at one counter are decided. */
function cutBoxes(factors: readonly (readonly number[])[], notes: Notes, size: number): Box[] {
  const cuts = factors.map((list, d) => list.map((n, f) => cutsOf(`i${d}.${f}`, n, notes)));
  const limit = Math.max(1, Math.min(mostBoxes, Math.floor(mostInBoxes / size)));
  const flat = cuts.flat();
  // What is outermost matters least: it is given up first.
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

/** The values of a counter from which on a guard holds, or no longer does. */
function cutsOf(key: string, size: number, notes: Notes): number[] {
  const cuts = new Set<number>();
  for (const { place, last } of notes.guards) {
    const [only, ...others] = place.terms;
    if (only === undefined || others.length > 0 || only.atom.key !== key) continue;
    for (const bound of [0, last + 1]) {
      // coefficient · counter + constant crosses the bound between two counts.
      const crossing = (bound - place.constant) / only.coefficient;
      cuts.add(only.coefficient > 0 ? Math.ceil(crossing) : Math.floor(crossing) + 1);
      if (only.coefficient < 0) cuts.add(Math.ceil(crossing));
    }
  }
  return [...cuts].filter((cut) => cut > 0 && cut < size).sort((a, b) => a - b);
}

/**
 * Counters that run as one: every sum in which either occurs steps over the outer one exactly
 * where the inner one ends.
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
      // The inner one runs on; what it takes over may have taken over others before it.
      running[i - 1] = { ...inner, key: inner.key, high: (inner.high + 1) * (outer.high + 1) - 1 };
      trips.set(inner.key, (inner.high + 1) * (outer.high + 1));
    }
  }
  return { dropped, trips };
}
