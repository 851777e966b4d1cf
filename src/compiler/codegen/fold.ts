import type { HloComputation } from '../../hlo/instruction.ts';
import { product } from '../../numerics/shape.ts';
import type { Fold } from '../lowering/loop.ts';
import { type Affine, term, type Variable, variable } from './affine.ts';
import type { Lanes } from './lanes.ts';
import type { Notes } from './notes.ts';
import type { Block, Cell, FunctionBuilder, Node } from './ssa.ts';
import { dependsOn, each, type Point, pick, repeat, type Value, type Vector } from './value.ts';

/**
 * Methods of the writer of a fused loop that `writeFold` calls. The class `Elements` implements
 * this interface.
 */
export interface FoldWriter {
  readonly to: FunctionBuilder;
  readonly lanes: Lanes;
  readonly notes: Notes;
  readonly vector: Vector;
  /** Writes code with another vector. Afterwards the writer has its vector as before. */
  withVector<T>(vector: Vector, body: () => T): T;
  bind(counter: Variable, value: Node): void;
  tripsOf(counter: Variable): number;
  homeOf(point: Point): Block;
  nest(block: Block, counters: readonly Variable[], body: (innermost: Block) => void): void;
  apply(computation: HloComputation, args: readonly Value[]): readonly Value[];
}

/**
 * Writes a reduction, ((init ∘ x0) ∘ x1) ∘ …, as one nest of loops over the reduced dimensions, in
 * row-major order. `key` starts the names of the counters and is unique in the function.
 */
export function writeFold(writer: FoldWriter, key: string, spec: Fold): readonly Value[] {
  const { sizes, inits, body } = spec;
  if (product(sizes) === 0) return inits;
  const counters = sizes.map((size, d) => variable(`${key}/${d}`, size));
  const offsets = counters.map((counter) => term(counter));
  const home = writer.homeOf(spec.point);
  writer.notes.nest(counters);
  writer.notes.fold(home.trips * product(sizes), spec.of);
  if (product(sizes) === 1) return writer.apply(body, [...inits, ...spec.elements(offsets)]);

  const along = writer.vector.variable;
  const varies = along !== undefined && dependsOn(spec.point, along);
  const sums = new Sums(writer.to, inits.length, varies ? writer.vector.unroll : 1);
  sums.assign(home, inits);
  const step = (block: Block): void =>
    sums.assign(block, writer.apply(body, [...sums.read(block), ...spec.elements(offsets)]));
  const running = counters.filter((counter) => writer.tripsOf(counter) > 1);
  const last = running.at(-1);
  if (varies || last === undefined || writer.tripsOf(last) < 4) {
    writer.nest(home, counters, step);
  } else {
    writer.nest(home, running.slice(0, -1), (block) => {
      const rest = foldFours(writer, spec, { along: last, offsets, sums, block });
      loopOver(writer, last, rest, block, step);
    });
  }
  return sums.read(home);
}

/** The accumulated values of a reduction, in cells (locals that change). */
class Sums {
  readonly #to: FunctionBuilder;
  readonly #copies: number;
  readonly #cells: readonly (readonly Cell[])[];

  /** Each of the `count` values has `copies` nodes. */
  constructor(to: FunctionBuilder, count: number, copies: number) {
    this.#to = to;
    this.#copies = copies;
    this.#cells = repeat(count, () => repeat(copies, () => to.cell('v128')));
  }

  read(block: Block): Value[] {
    return this.#cells.map((list) => list.map((cell) => this.#to.read(cell, block)));
  }

  assign(block: Block, values: readonly Value[]): void {
    const nodes = values.flatMap((value) => repeat(this.#copies, (u) => pick(value, u)));
    this.#to.assign(block, this.#cells.flat(), nodes);
  }
}

/**
 * Writes a loop over a counter in steps of four, and returns the counter value at which that loop
 * ends, a multiple of 4. An iteration computes four elements, one in each SIMD lane, and folds them
 * one after another, in the order that the reduction prescribes.
 */
function foldFours(
  writer: FoldWriter,
  spec: Fold,
  loop: {
    readonly along: Variable;
    readonly offsets: readonly Affine[];
    readonly sums: Sums;
    readonly block: Block;
  },
): number {
  const { along, offsets, sums } = loop;
  const limit = writer.tripsOf(along) & ~3;
  writer.withVector({ variable: along, width: 4, unroll: 1 }, () =>
    writer.to.loop(loop.block, { start: 0, limit, step: 4 }, (inner, counter) => {
      writer.bind(along, counter);
      const four = spec.elements(offsets);
      let folded: readonly Value[] = sums.read(inner);
      for (const lane of [0, 1, 2, 3]) {
        const one = four.map((value) => each((x) => writer.lanes.spreadLane(x, lane), value));
        folded = writer.apply(spec.body, [...folded, ...one]);
      }
      sums.assign(inner, folded);
    }),
  );
  return limit;
}

/** Writes a loop over the values of a counter from `start` on, or nothing if no value is left. */
function loopOver(
  writer: FoldWriter,
  along: Variable,
  start: number,
  parent: Block,
  body: (block: Block) => void,
): void {
  const limit = writer.tripsOf(along);
  if (start === limit) return;
  writer.to.loop(parent, { start, limit, step: 1 }, (block, counter) => {
    writer.bind(along, counter);
    body(block);
  });
}
