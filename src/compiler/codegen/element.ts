import type {
  Concatenate,
  HloComputation,
  HloInstruction,
  Pad,
  Parameter,
  Reduce,
  ReduceWindow,
  WindowDimension,
} from '../../hlo/instruction.ts';
import { assert, at } from '../../numerics/assert.ts';
import { type ElementType, elementBytes } from '../../numerics/element-type.ts';
import { bitsFromF32 } from '../../numerics/f32-ops.ts';
import { type Literal, valueAt } from '../../numerics/literal.ts';
import {
  type ArrayShape,
  elementCount,
  isArray,
  product,
  stridesOf,
} from '../../numerics/shape.ts';
import {
  type Affine,
  type Atom,
  clamped,
  coefficientOf,
  constant,
  isNonlinearIn,
  linear,
  plus,
  quotient,
  rangeOf,
  shifted,
  term,
  times,
  type Variable,
  variable,
  variablesOf,
} from './affine.ts';
import type { HelperName } from './helpers.ts';
import { Lanes } from './lanes.ts';
import { Memory } from './memory.ts';
import type { Notes } from './notes.ts';
import type { Block, FunctionBuilder, Node } from './ssa.ts';
import { scalar, simdCode, wordBytes } from './wasm.ts';

/**
 * Position of an element in an array: one index expression (function of loop counters) for each
 * dimension.
 */
export type Point = readonly Affine[];

/**
 * Elements that SIMD lanes compute at the same time. Each node is one v128 with four elements. A
 * value has `Vector.unroll` nodes. If all these nodes are equal, the value may have a single node,
 * which stands for all of them.
 */
export type Value = readonly Node[];

/**
 * Vectorization of the innermost loop. With `width` 4, one iteration computes 4 · `unroll`
 * successive values of the counter `variable` in SIMD lanes, four in each v128. With `width` 1, one
 * iteration computes one value of the counter and uses one lane.
 */
export interface Vector {
  readonly variable: Variable | undefined;
  readonly width: 1 | 4;
  readonly unroll: number;
}

/**
 * Loops of a nest that are merged. To merge two nested loops, the outer loop is dropped, and the
 * inner loop runs as many iterations as both loops together. `dropped` has the keys of the counters
 * of dropped loops. `trips` has the number of iterations of each merged loop, under the key of its
 * inner counter.
 */
export interface Merges {
  readonly dropped: ReadonlySet<string>;
  readonly trips: ReadonlyMap<string, number>;
}

/**
 * Largest window, in positions, for which the code of a reduce-window is unrolled. For a larger
 * window the code has a loop over the positions.
 */
const unrolledPositions = 32;

/**
 * Writes the code that computes elements of instructions. `valueOf(it, point)` writes the code for
 * one element. If this element needs elements of operands, `valueOf` first writes the code for
 * those, and so on down to loads. Code that does not depend on the counter of a loop is placed
 * outside of that loop; this also holds for the loops of a reduction.
 */
export class Elements {
  readonly to: FunctionBuilder;
  readonly lanes: Lanes;
  readonly memory: Memory;
  readonly notes: Notes;
  #vector: Vector = { variable: undefined, width: 1, unroll: 1 };
  readonly #merges: Merges;
  readonly #bindings = new Map<string, Node>();
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
    this.#merges = options.merges;
    this.#ids = options.ids;
  }

  get vector(): Vector {
    return this.#vector;
  }

  set vector(vector: Vector) {
    this.#vector = vector;
    this.#varying = new Map();
  }

  /** Sets the value of a counter. All code that is written later uses this value. */
  bind(counter: Variable, value: Node): void {
    this.#bindings.set(counter.key, value);
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
    if (this.#merges.dropped.has(counter.key)) return 1;
    return this.#merges.trips.get(counter.key) ?? counter.high + 1;
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
    return at(this.#valuesOf(it, point), 0);
  }

  /**
   * Returns the byte address of the element at `index` of a dense array (without padding) that
   * starts at `base`. `shift` selects a SIMD lane: `shift` is added to the counter that runs along
   * the lanes (`vector.variable`), wherever this counter occurs in `index`.
   */
  addressOf(base: Node, shape: ArrayShape, index: Affine, shift = 0): Node {
    this.notes.use(index);
    return this.#sum(base, times(index, elementBytes(shape.type)), shift);
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

  /**
   * Returns the element at a place in the dilated form of the array `it`. In the dilated form,
   * neighbouring elements of `it` are `step` places apart. `places[d]` has the place and the step
   * in dimension d. If no element lies at the place, the result is `otherwise`.
   */
  spread(
    it: HloInstruction,
    places: readonly { readonly place: Affine; readonly step: number }[],
    otherwise: () => Value,
  ): Value {
    const found = this.locate(it, places);
    if (found === undefined) return otherwise();
    const value = this.valueOf(it, found.point);
    return found.inside === undefined ? value : this.#select(found.inside, value, otherwise());
  }

  /**
   * Finds, for each lane, the element at a place in the dilated form of the array `it`, in which
   * neighbouring elements are `step` places apart. Returns undefined if no lane finds an element.
   * Otherwise returns:
   *
   * - `inside`: the mask of the lanes that find an element; undefined if all lanes do;
   * - `point`: the index of the element; in a lane that finds no element, the index of any valid
   *   element.
   */
  locate(
    it: HloInstruction,
    places: readonly { readonly place: Affine; readonly step: number }[],
  ): { readonly point: Point; readonly inside: Value | undefined } | undefined {
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

  /** Returns the value of an index expression as s32, for the counter value of each lane. */
  indexLanes(index: Affine): Value {
    this.notes.use(index);
    const { variable: along, width, unroll } = this.#vector;
    const bent = along !== undefined && isNonlinearIn(index, along);
    const stride = along === undefined ? 0 : coefficientOf(index, along);
    const lanes = this.lanes;
    if (width === 1 || along === undefined || (stride === 0 && !bent)) {
      return [lanes.splat(this.#index(index, 0))];
    }
    if (!bent) {
      const first = lanes.splat(this.#index(index, 0));
      return repeat(unroll, (u) => lanes.op('i32x4Add', first, this.#ramp(4 * u, stride)));
    }
    return repeat(unroll, (u) =>
      [1, 2, 3].reduce(
        (sum, lane) => lanes.replace(sum, lane, this.#index(index, 4 * u + lane)),
        lanes.splat(this.#index(index, 4 * u)),
      ),
    );
  }

  #key(it: HloInstruction, point: Point): string {
    const id = this.#ids.get(it) ?? this.#ids.size;
    this.#ids.set(it, id);
    const call = this.#call === undefined ? '' : `${this.#call.id}:`;
    return `${call}${id}@${point.map(({ key }) => key).join(';')}`;
  }

  /**
   * Returns the value of an instruction at a point; for a tuple, one value for each element of the
   * tuple.
   */
  #valuesOf(it: HloInstruction, point: Point): readonly Value[] {
    const key = this.#key(it, point);
    const known = this.#uniform.get(key) ?? this.#varying.get(key);
    if (known !== undefined) return known;
    const made = this.notes.tooLarge(this.to.size)
      ? this.#nothing(it)
      : this.#compute(it, point, key);
    (this.#outlivesVector(point) ? this.#uniform : this.#varying).set(key, made);
    return made;
  }

  /**
   * True if an element computed at this point stays valid when a caller sets `vector`. This is so
   * if the point contains neither the counter along which the SIMD lanes run nor a counter of a
   * reduction. Only counters of reductions have `/` in their keys.
   */
  #outlivesVector(point: Point): boolean {
    const along = this.#vector.variable?.key;
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

  #compute(it: HloInstruction, point: Point, key: string): readonly Value[] {
    if (it.opcode === 'reduce') return this.#reduce(it, point, key);
    if (it.opcode === 'tuple') return it.operands.map((operand) => this.valueOf(operand, point));
    return [this.#array(it, point, key)];
  }

  #array(it: HloInstruction, point: Point, key: string): Value {
    const lanes = this.lanes;
    const operand = (i: number): HloInstruction => at(it.operands, i);
    const here = (i: number): Value => this.valueOf(operand(i), point);
    /**
     * Returns the element of operand `i` at the point. If operand `i` is a scalar, returns the
     * scalar.
     */
    const spread = (i: number): Value =>
      this.valueOf(operand(i), arrayOf(operand(i)).dims.length === 0 ? [] : point);
    const type = arrayOf(it).type;
    switch (it.opcode) {
      case 'parameter':
        return this.#call === undefined ? this.#load(it, point) : at(this.#call.args, it.index);
      case 'constant':
        return [lanes.bits(wordOf(it.value))];
      case 'iota':
        return each(
          (index) => lanes.convert('s32', type, index),
          this.indexLanes(at(point, it.dimension)),
        );
      case 'abs':
      case 'ceil':
      case 'cosine':
      case 'exponential':
      case 'exponential-minus-one':
      case 'floor':
      case 'is-finite':
      case 'log':
      case 'log-plus-one':
      case 'logistic':
      case 'negate':
      case 'not':
      case 'round-nearest-even':
      case 'rsqrt':
      case 'sign':
      case 'sine':
      case 'sqrt':
      case 'tanh':
        return each((x) => lanes.unary(it.opcode, arrayOf(operand(0)).type, x), here(0));
      case 'add':
      case 'subtract':
      case 'multiply':
      case 'divide':
      case 'maximum':
      case 'minimum':
      case 'power':
      case 'remainder':
      case 'and':
      case 'or':
      case 'xor':
      case 'shift-left':
      case 'shift-right-arithmetic':
      case 'shift-right-logical':
        return each((a, b) => lanes.binary(it.opcode, type, a, b), here(0), here(1));
      case 'compare': {
        const of = arrayOf(operand(0)).type;
        return each((a, b) => lanes.compare(it.direction, of, a, b), here(0), here(1));
      }
      case 'select':
        return this.#select(here(0), here(1), here(2));
      case 'clamp':
        return each(
          (low, x, high) => lanes.clamp(type, low, x, high),
          ...[spread(0), here(1), spread(2)],
        );
      case 'convert':
        return each((x) => lanes.convert(arrayOf(operand(0)).type, type, x), here(0));
      case 'bitcast-convert':
        return here(0);
      case 'broadcast':
        return this.valueOf(
          operand(0),
          it.dimensions.map((d) => at(point, d)),
        );
      case 'reshape':
        return this.valueOf(operand(0), reshaped(point, it.shape, arrayOf(operand(0))));
      case 'transpose': {
        const from = it.permutation.map((_, d) => at(point, it.permutation.indexOf(d)));
        return this.valueOf(operand(0), from);
      }
      case 'slice':
        return this.valueOf(
          operand(0),
          point.map((index, d) => shifted(times(index, at(it.strides, d)), at(it.starts, d))),
        );
      case 'reverse': {
        const turned = point.map((index, d) =>
          it.dimensions.includes(d) ? shifted(times(index, -1), at(it.shape.dims, d) - 1) : index,
        );
        return this.valueOf(operand(0), turned);
      }
      case 'pad':
        return this.#pad(it, point);
      case 'concatenate':
        return this.#concatenate(it, point);
      case 'reduce-window':
        return this.#reduceWindow(it, point, key);
      case 'select-and-scatter':
        this.notes.scatter(it, point);
        return [lanes.bits(0)];
      case 'get-tuple-element':
        return at(this.#valuesOf(operand(0), point), it.index);
      default:
        return assert(false, `${it.opcode} is no element of a loop`) as never;
    }
  }

  #load(it: Parameter, point: Point): Value {
    const shape = arrayOf(it);
    const index = linear(point, stridesOf(shape.dims));
    const base = this.to.parameter(it.index);
    this.notes.load(it.index, index);
    const { variable: along, width, unroll } = this.#vector;
    const address = (shift: number): Node => this.addressOf(base, shape, index, shift);
    if (along === undefined || width === 1 || !this.#depends([index], along)) {
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

  #pad(it: Pad, point: Point): Value {
    const places = point.map((index, d) => ({
      place: shifted(index, -at(it.low, d)),
      step: at(it.interior, d) + 1,
    }));
    return this.spread(at(it.operands, 0), places, () => this.valueOf(at(it.operands, 1), []));
  }

  #concatenate(it: Concatenate, point: Point): Value {
    let value: Value | undefined;
    let start = at(it.shape.dims, it.dimension);
    for (const operand of it.operands.toReversed()) {
      start -= at(arrayOf(operand).dims, it.dimension);
      const places = point.map((index, d) => ({
        place: d === it.dimension ? shifted(index, -start) : index,
        step: 1,
      }));
      const rest = value;
      const found = this.locate(operand, places);
      if (found === undefined) continue;
      const own = this.valueOf(operand, found.point);
      value =
        rest === undefined || found.inside === undefined
          ? own
          : this.#select(found.inside, own, rest);
    }
    assert(value !== undefined, 'a concatenation of nothing has no elements');
    return value;
  }

  #reduce(it: Reduce, point: Point, key: string): readonly Value[] {
    const inputs = it.operands.slice(0, it.operands.length / 2);
    const inits = it.operands.slice(inputs.length);
    const { dims } = arrayOf(at(inputs, 0));
    const reduced = dims.map((_, d) => d).filter((d) => it.dimensions.includes(d));
    const pointWith = (offsets: readonly Affine[]): Affine[] => {
      let kept = 0;
      return dims.map((_, d) =>
        it.dimensions.includes(d) ? at(offsets, reduced.indexOf(d)) : at(point, kept++),
      );
    };
    const values = this.#fold({
      key,
      point,
      sizes: reduced.map((d) => at(dims, d)),
      inits: inits.map((init) => this.valueOf(init, [])),
      body: it.body,
      elements: (offsets) => inputs.map((input) => this.valueOf(input, pointWith(offsets))),
      of: elementCount(arrayOf(at(inputs, 0))),
    });
    return values.map((value, n) =>
      each((x) => this.lanes.rounded(arrayOf(at(inputs, n)).type, x), value),
    );
  }

  #reduceWindow(it: ReduceWindow, point: Point, key: string): Value {
    const input = at(it.operands, 0);
    const init = this.valueOf(at(it.operands, 1), []);
    const element = (offsets: readonly Affine[]): Value =>
      this.spread(input, windowPlaces(it.window, point, offsets), () => init);
    const sizes = it.window.map(({ size }) => size);
    if (product(sizes) <= unrolledPositions) {
      let sum = init;
      for (const offsets of positions(sizes)) {
        const fixed = offsets.map(constant);
        sum = at(this.apply(it.body, [sum, element(fixed)]), 0);
      }
      return each((x) => this.lanes.rounded(it.shape.type, x), sum);
    }
    const [value] = this.#fold({
      key,
      point,
      sizes,
      inits: [init],
      body: it.body,
      elements: (offsets) => [element(offsets)],
      of: elementCount(it.shape) * product(sizes),
    });
    return each((x) => this.lanes.rounded(it.shape.type, x), value!);
  }

  /**
   * Writes a reduction, ((init ∘ x0) ∘ x1) ∘ …, as one nest of loops over the reduced dimensions,
   * in row-major order.
   */
  #fold(spec: {
    readonly key: string;
    readonly point: Point;
    readonly sizes: readonly number[];
    readonly inits: readonly Value[];
    readonly body: HloComputation;
    readonly elements: (offsets: readonly Affine[]) => readonly Value[];
    /**
     * Number of elements that the reduction folds if each element of the result is computed once.
     * Loops around the reduction may compute an element of the result several times; the reduction
     * then folds more elements.
     */
    readonly of: number;
  }): readonly Value[] {
    const { sizes, inits, body } = spec;
    if (product(sizes) === 0) return inits;
    const counters = sizes.map((size, d) => variable(`${spec.key}/${d}`, size));
    const offsets = counters.map((counter) => term(counter));
    const home = this.#homeOf(spec.point);
    this.notes.nest(counters);
    this.notes.fold(home.trips * product(sizes), spec.of);
    if (product(sizes) === 1) return this.apply(body, [...inits, ...spec.elements(offsets)]);

    const along = this.#vector.variable;
    const varies = along !== undefined && this.#depends(spec.point, along);
    const copies = varies ? this.#vector.unroll : 1;
    const cells = inits.map(() => repeat(copies, () => this.to.cell('v128')));
    const flat = cells.flat();
    this.to.assign(
      home,
      flat,
      inits.flatMap((init) => repeat(copies, (u) => pick(init, u))),
    );
    const step = (block: Block): void => {
      const sums = cells.map((list) => list.map((cell) => this.to.read(cell, block)));
      const next = this.apply(body, [...sums, ...spec.elements(offsets)]);
      this.to.assign(
        block,
        flat,
        next.flatMap((value) => repeat(copies, (u) => pick(value, u))),
      );
    };
    const running = counters.filter((counter) => this.tripsOf(counter) > 1);
    const last = running.at(-1);
    if (varies || last === undefined || this.tripsOf(last) < 4) {
      this.nest(home, counters, step);
    } else {
      this.nest(home, running.slice(0, -1), (block) => {
        const sumsIn = (inner: Block): Value[] => flat.map((cell) => [this.to.read(cell, inner)]);
        const rest = this.#foldFours(block, last, (inner) => {
          const lanes = spec.elements(offsets);
          let sums: readonly Value[] = sumsIn(inner);
          for (const lane of [0, 1, 2, 3]) {
            const one = lanes.map((value) => each((x) => this.lanes.spreadLane(x, lane), value));
            sums = this.apply(body, [...sums, ...one]);
          }
          this.to.assign(
            inner,
            flat,
            sums.map((value) => pick(value, 0)),
          );
        });
        this.#loopOver(block, last, rest, step);
      });
    }
    return cells.map((list) => list.map((cell) => this.to.read(cell, home)));
  }

  /**
   * Writes a loop over a counter in steps of four, and returns the counter value at which that loop
   * ends, a multiple of 4. An iteration computes four elements, one in each SIMD lane. `body` folds
   * these four elements one after another, in the order that the reduction prescribes.
   */
  #foldFours(parent: Block, along: Variable, body: (block: Block) => void): number {
    const outer = { vector: this.#vector, varying: this.#varying };
    const limit = this.tripsOf(along) & ~3;
    this.vector = { variable: along, width: 4, unroll: 1 };
    this.to.loop(parent, { start: 0, limit, step: 4 }, (block, counter) => {
      this.bind(along, counter);
      body(block);
    });
    this.#vector = outer.vector;
    this.#varying = outer.varying;
    return limit;
  }

  /** Writes a loop over the values of a counter from `start` on, or nothing if no value is left. */
  #loopOver(parent: Block, along: Variable, start: number, body: (block: Block) => void): void {
    const limit = this.tripsOf(along);
    if (start === limit) return;
    this.to.loop(parent, { start, limit, step: 1 }, (block, counter) => {
      this.bind(along, counter);
      body(block);
    });
  }

  /**
   * Returns the body of the innermost loop that a point depends on, or the body of the function if
   * the point depends on no loop.
   */
  #homeOf(point: Point): Block {
    const blocks = point
      .flatMap(variablesOf)
      .flatMap(({ key }) => this.#bindings.get(key)?.block ?? []);
    return blocks.reduce((best, block) => (block.depth > best.depth ? block : best), this.to.root);
  }

  #depends(point: Point, on: Variable): boolean {
    return point.some((index) => variablesOf(index).some(({ key }) => key === on.key));
  }

  #select(mask: Value, onTrue: Value, onFalse: Value): Value {
    return each((m, t, f) => this.lanes.select(m, t, f), mask, onTrue, onFalse);
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

  /** Returns a v128 constant whose lane i holds (start + i) · stride. */
  #ramp(start: number, stride: number): Node {
    const words = [0, 1, 2, 3].flatMap((lane) => wordBytes((start + lane) * stride));
    return this.to.node('v128', simdCode('const', ...words));
  }

  /**
   * Returns the value of an index expression as an i32. `shift` selects a SIMD lane: `shift` is
   * added to the counter that runs along the lanes (`vector.variable`).
   */
  #index(index: Affine, shift: number): Node {
    return this.#sum(undefined, index, shift);
  }

  /**
   * Returns base + index. Adds the terms of outer loops first, so that their sum is computed
   * outside of the inner loops.
   */
  #sum(base: Node | undefined, index: Affine, shift: number): Node {
    const to = this.to;
    const factors = index.terms.flatMap(({ atom, coefficient }) => {
      const node = this.#atom(atom, shift);
      return node === undefined ? [] : [{ node, coefficient }];
    });
    factors.sort((a, b) => a.node.block.depth - b.node.block.depth);
    let sum = base;
    if (index.constant !== 0) sum = this.#plus(sum, to.i32(index.constant));
    for (const { node, coefficient } of factors) {
      const scaled =
        coefficient === 1 ? node : to.node('i32', [scalar.i32Mul], node, to.i32(coefficient));
      sum = this.#plus(sum, scaled);
    }
    return sum ?? to.i32(0);
  }

  #plus(a: Node | undefined, b: Node): Node {
    return a === undefined ? b : this.to.node('i32', [scalar.i32Add], a, b);
  }

  /**
   * Returns the value of an atom (a counter, quotient or clamped sum) as an i32. Returns undefined
   * for a counter that was merged into another counter.
   */
  #atom(atom: Atom, shift: number): Node | undefined {
    const to = this.to;
    if (atom.kind === 'variable') {
      if (this.#merges.dropped.has(atom.key)) return undefined;
      const bound = this.#bindings.get(atom.key);
      assert(bound !== undefined, `the counter ${atom.key} has no loop`);
      if (shift === 0 || atom.key !== this.#vector.variable?.key) return bound;
      return to.node('i32', [scalar.i32Add], bound, to.i32(shift));
    }
    const of = this.#index(atom.of, shift);
    if (atom.kind === 'quotient') {
      const { divisor, modulus } = atom;
      const quotientNode =
        divisor === 1 ? of : to.node('i32', [scalar.i32DivU], of, to.i32(divisor));
      if (modulus === Infinity) return quotientNode;
      return to.node('i32', [scalar.i32RemU], quotientNode, to.i32(modulus));
    }
    const low = to.i32(atom.low);
    const high = to.i32(atom.high);
    const above = to.node(
      'i32',
      [scalar.select],
      low,
      of,
      to.node('i32', [scalar.i32LtS], of, low),
    );
    const isOver = to.node('i32', [scalar.i32GtS], above, high);
    return to.node('i32', [scalar.select], high, above, isOver);
  }
}

/**
 * Applies an operation to node 0 of all values, to node 1 of all values, and so on. If a value has
 * a single node, which stands for several equal nodes, that node is used each time.
 */
export function each(operation: (...nodes: Node[]) => Node, ...values: readonly Value[]): Value {
  const count = values.reduce((most, value) => Math.max(most, value.length), 1);
  return repeat(count, (u) => operation(...values.map((value) => pick(value, u))));
}

/** Returns node `u` of a value (lanes 4u to 4u + 3), or its single node if all nodes are equal. */
export function pick(value: Value, u: number): Node {
  return at(value, value.length === 1 ? 0 : u);
}

/** Returns the shape of an instruction whose value must be an array (asserted). */
export function arrayOf(it: HloInstruction): ArrayShape {
  assert(isArray(it.shape), `${it.opcode} is an array`);
  return it.shape;
}

/**
 * Returns the place of one element of a window, such as a window of a reduce-window. The place is
 * an index into the dilated operand, which has gaps between its elements. `point` is the index of
 * the window, `offsets` the index of the element within the window. `Elements.locate` takes the
 * result.
 */
export function windowPlaces(
  window: readonly WindowDimension[],
  point: Point,
  offsets: readonly Affine[],
): { readonly place: Affine; readonly step: number }[] {
  return window.map((it, d) => ({
    place: shifted(
      plus(times(at(point, d), it.stride), times(at(offsets, d), it.windowDilation)),
      -it.padLow,
    ),
    step: it.baseDilation,
  }));
}

/** Every index into an array of the given sizes, in row-major order. */
export function positions(sizes: readonly number[]): number[][] {
  return sizes.reduce<number[][]>(
    (list, size) => list.flatMap((index) => Array.from({ length: size }, (_, i) => [...index, i])),
    [[]],
  );
}

/**
 * Returns the 32 bits that a lane holds for a constant. All elements of the constant must be equal.
 */
function wordOf(value: Literal): number {
  const number = valueAt(value, 0);
  return elementWord(value.shape.type, number);
}

function elementWord(type: ElementType, value: number): number {
  if (type === 'pred') return value === 0 ? 0 : -1;
  return type === 'f32' || type === 'bf16' ? bitsFromF32(value) : value;
}

function reshaped(point: Point, from: ArrayShape, to: ArrayShape): Affine[] {
  const flat = linear(point, stridesOf(from.dims));
  const strides = stridesOf(to.dims);
  return to.dims.map((size, d) => quotient(flat, at(strides, d), size));
}

function repeat<T>(count: number, make: (u: number) => T): T[] {
  return Array.from({ length: count }, (_, u) => make(u));
}
