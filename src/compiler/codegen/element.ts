import type {
  HloComputation,
  HloInstruction,
  Parameter,
  SelectAndScatter,
} from '../../hlo/instruction.ts';
import { assert, at } from '../../numerics/assert.ts';
import { elementBytes } from '../../numerics/element-type.ts';
import { type ArrayShape, stridesOf } from '../../numerics/shape.ts';
import type { ElementWriter, Fold, Located } from '../lowering/loop.ts';
import { loweringOf } from '../lowering/table.ts';
import {
  type Affine,
  clamped,
  coefficientOf,
  isNonlinearIn,
  linear,
  quotient,
  rangeOf,
  type Variable,
  variablesOf,
} from './affine.ts';
import { type FoldWriter, writeFold } from './fold.ts';
import type { HelperName } from './helpers.ts';
import { Indices } from './indices.ts';
import { Lanes } from './lanes.ts';
import { Memory } from './memory.ts';
import type { Notes } from './notes.ts';
import type { Block, FunctionBuilder, Node } from './ssa.ts';
import {
  arrayOf,
  dependsOn,
  each,
  type Merges,
  type Point,
  repeat,
  type Value,
  type Vector,
} from './value.ts';
import type { Place } from './window.ts';

/**
 * Writes the code that computes elements of instructions. `valueOf(it, point)` writes the code for
 * one element, as the table of lowerings (lowering/table.ts) says for the opcode. If this element
 * needs elements of operands, `valueOf` first writes the code for those, and so on down to loads.
 * Code that does not depend on the counter of a loop is placed outside of that loop; this also
 * holds for the loops of a reduction.
 */
export class Elements implements ElementWriter, FoldWriter {
  readonly to: FunctionBuilder;
  readonly lanes: Lanes;
  readonly memory: Memory;
  readonly notes: Notes;
  readonly #indices: Indices;
  readonly #ids: Map<HloInstruction, number>;
  /**
   * Computed elements that are equal in all SIMD lanes. They stay valid when a caller sets
   * `vector`, which says along which counter the lanes run.
   */
  readonly #uniform = new Map<string, readonly Value[]>();
  /**
   * Computed elements that may differ between SIMD lanes. A caller that sets `vector` changes the
   * counter along which the lanes run. A lane then stands for another value of the counter, so the
   * computed elements are forgotten.
   */
  #varying = new Map<string, readonly Value[]>();
  #call: { readonly id: number; readonly args: readonly Value[] } | undefined;
  #calls = 0;

  constructor(
    to: FunctionBuilder,
    options: {
      readonly helpers: Set<HelperName>;
      readonly notes: Notes;
      readonly merges: Merges;
      readonly ids: Map<HloInstruction, number>;
    },
  ) {
    this.to = to;
    this.lanes = new Lanes(to, options.helpers);
    this.memory = new Memory(to, this.lanes);
    this.notes = options.notes;
    this.#indices = new Indices(to, this.lanes, options.notes, options.merges);
    this.#ids = options.ids;
  }

  get vector(): Vector {
    return this.#indices.vector;
  }

  set vector(vector: Vector) {
    this.#indices.vector = vector;
    this.#varying = new Map();
  }

  /** Writes code with another vector. Afterwards the vector and the computed elements are back. */
  withVector<T>(vector: Vector, body: () => T): T {
    const outer = { vector: this.vector, varying: this.#varying };
    this.vector = vector;
    const result = body();
    this.vector = outer.vector;
    this.#varying = outer.varying;
    return result;
  }

  /** Sets the value of a counter. All code that is written later uses this value. */
  bind(counter: Variable, value: Node): void {
    this.#indices.bind(counter, value);
  }

  /**
   * Writes nested loops over counters, with the first counter outermost. A counter with only one
   * value gets no loop.
   */
  nest(block: Block, counters: readonly Variable[], body: (innermost: Block) => void): void {
    const [first, ...rest] = counters.filter((counter) => this.tripsOf(counter) > 1);
    if (first === undefined) {
      body(block);
      return;
    }
    const range = { start: 0, limit: this.tripsOf(first), step: 1 };
    this.to.loop(block, range, (inner, counter) => {
      this.bind(first, counter);
      this.nest(inner, rest, body);
    });
  }

  /**
   * Returns how many iterations the loop over a counter has, or 1 if the loop was merged into
   * another loop.
   */
  tripsOf(counter: Variable): number {
    return this.#indices.tripsOf(counter);
  }

  /**
   * Returns the body of the innermost loop that a point depends on, or the body of the function if
   * the point depends on no loop.
   */
  homeOf(point: Point): Block {
    return this.#indices.homeOf(point);
  }

  /**
   * Sets the value of an instruction's element at a point. `valueOf` returns this value until a
   * caller sets `vector`, which says along which counter the SIMD lanes run.
   */
  define(it: HloInstruction, point: Point, value: Value): void {
    this.#varying.set(this.#key(it, point), [value]);
  }

  /** Returns the element of an array at a point, for all lanes. */
  valueOf(it: HloInstruction, point: Point): Value {
    return at(this.valuesOf(it, point), 0);
  }

  /**
   * Returns the value of an instruction at a point; for a tuple, one value for each element of the
   * tuple.
   */
  valuesOf(it: HloInstruction, point: Point): readonly Value[] {
    const key = this.#key(it, point);
    const known = this.#uniform.get(key) ?? this.#varying.get(key);
    if (known !== undefined) return known;
    const made = this.notes.tooLarge(this.to.size) ? this.#nothing(it) : this.#compute(it, point);
    (this.#outlivesVector(point) ? this.#uniform : this.#varying).set(key, made);
    return made;
  }

  parameter(it: Parameter, point: Point): Value {
    return this.#call === undefined ? this.#load(it, point) : at(this.#call.args, it.index);
  }

  /**
   * Returns zeros in place of the element of a select-and-scatter, and records the element. Only a
   * draft may come here: `supports` refuses a loop whose draft records an element that no nest
   * computes before.
   */
  scattered(it: SelectAndScatter, point: Point): Value {
    this.notes.scatter(it, point);
    return [this.lanes.bits(0)];
  }

  /** Returns the byte address of an element, as {@link Indices.addressOf} describes. */
  addressOf(base: Node, shape: ArrayShape, index: Affine, shift = 0): Node {
    return this.#indices.addressOf(base, shape, index, shift);
  }

  indexLanes(index: Affine): Value {
    return this.#indices.lanesOf(index);
  }

  /** Applies a computation on scalars to `args`, separately in every lane. Returns the results. */
  apply(computation: HloComputation, args: readonly Value[]): readonly Value[] {
    const outer = this.#call;
    this.#call = { id: ++this.#calls, args };
    const { root } = computation;
    const roots = root.opcode === 'tuple' ? root.operands : [root];
    const values = roots.map((it) => this.valueOf(it, []));
    this.#call = outer;
    return values;
  }

  fold(spec: Fold): readonly Value[] {
    return writeFold(this, this.#key(spec.it, spec.point), spec);
  }

  select(mask: Value, onTrue: Value, onFalse: Value): Value {
    return each((m, t, f) => this.lanes.select(m, t, f), mask, onTrue, onFalse);
  }

  /**
   * Returns the element at a place in the dilated form of the array `it`. In the dilated form,
   * neighbouring elements of `it` are `step` places apart. `places[d]` has the place and the step
   * in dimension d. If no element lies at the place, the result is `otherwise`.
   */
  spread(it: HloInstruction, places: readonly Place[], otherwise: () => Value): Value {
    const found = this.locate(it, places);
    if (found === undefined) return otherwise();
    const value = this.valueOf(it, found.point);
    return found.inside === undefined ? value : this.select(found.inside, value, otherwise());
  }

  /**
   * Finds, for each lane, the element at a place in the dilated form of the array `it`, in which
   * neighbouring elements are `step` places apart. Returns undefined if no lane finds an element.
   */
  locate(it: HloInstruction, places: readonly Place[]): Located | undefined {
    const { dims } = arrayOf(it);
    const point: Affine[] = [];
    const conditions: Value[] = [];
    for (const [d, { place, step }] of places.entries()) {
      const last = (at(dims, d) - 1) * step;
      const { low, high } = rangeOf(place);
      if (last < 0 || high < 0 || low > last) return undefined;
      if (low < 0 || high > last) conditions.push(this.#within(place, last));
      const near = clamped(place, 0, last);
      const over = quotient(near, 1, step);
      if (over.terms.length > 0) conditions.push(this.#isZero(over));
      else if (over.constant !== 0) return undefined;
      point.push(quotient(near, step));
    }
    return { point, inside: conditions.length === 0 ? undefined : this.#all(conditions) };
  }

  #key(it: HloInstruction, point: Point): string {
    const id = this.#ids.get(it) ?? this.#ids.size;
    this.#ids.set(it, id);
    const call = this.#call === undefined ? '' : `${this.#call.id}:`;
    return `${call}${id}@${point.map(({ key }) => key).join(';')}`;
  }

  /**
   * True if an element computed at this point stays valid when a caller sets `vector`. This is so
   * if the point contains neither the counter along which the SIMD lanes run nor a counter of a
   * reduction. Only counters of reductions have `/` in their keys.
   */
  #outlivesVector(point: Point): boolean {
    const along = this.vector.variable?.key;
    return point.every((index) =>
      variablesOf(index).every(({ key }) => key !== along && !key.includes('/')),
    );
  }

  /**
   * Returns zeros in place of the value of an instruction. Used once the generated function is too
   * large, because the code of such a function is discarded.
   */
  #nothing({ shape }: HloInstruction): Value[] {
    const count = shape.type === 'tuple' ? shape.elements.length : 1;
    return repeat(count, () => [this.lanes.bits(0)]);
  }

  #compute(it: HloInstruction, point: Point): readonly Value[] {
    const { loop } = loweringOf(it);
    assert(loop !== undefined, `${it.opcode} is no element of a loop`);
    if (loop.elements !== undefined) return loop.elements(it as never, point, this);
    return [loop.element(it as never, point, this)];
  }

  #load(it: Parameter, point: Point): Value {
    const shape = arrayOf(it);
    const index = linear(point, stridesOf(shape.dims));
    const base = this.to.parameter(it.index);
    this.notes.load(it.index, index);
    const { variable: along, width, unroll } = this.vector;
    const address = (shift: number): Node => this.addressOf(base, shape, index, shift);
    if (along === undefined || width === 1 || !dependsOn([index], along)) {
      return [this.memory.loadOne(shape.type, address(0))];
    }
    if (coefficientOf(index, along) === 1 && !isNonlinearIn(index, along)) {
      const bytes = 4 * elementBytes(shape.type);
      return repeat(unroll, (u) => this.memory.loadFour(shape.type, address(0), bytes * u));
    }
    return repeat(unroll, (u) =>
      this.memory.loadEach(
        shape.type,
        [0, 1, 2, 3].map((lane) => address(4 * u + lane)),
      ),
    );
  }

  #all(masks: readonly Value[]): Value {
    return masks.reduce((sum, mask) => each((a, b) => this.lanes.op('and', a, b), sum, mask));
  }

  /**
   * Returns the mask 0 ≤ place ≤ last. One unsigned comparison is enough, because a negative place
   * is a large unsigned number.
   */
  #within(place: Affine, last: number): Value {
    this.notes.guard(place, last);
    const most = this.lanes.bits(last);
    return each((index) => this.lanes.op('i32x4LeU', index, most), this.indexLanes(place));
  }

  #isZero(index: Affine): Value {
    const zero = this.lanes.bits(0);
    return each((x) => this.lanes.op('i32x4Eq', x, zero), this.indexLanes(index));
  }
}
