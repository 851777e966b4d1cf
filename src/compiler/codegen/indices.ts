import { assert } from '../../numerics/assert.ts';
import { elementBytes } from '../../numerics/element-type.ts';
import type { ArrayShape } from '../../numerics/shape.ts';
import {
  type Affine,
  type Atom,
  type Clamped,
  coefficientOf,
  isNonlinearIn,
  type Quotient,
  times,
  type Variable,
  variablesOf,
} from './affine.ts';
import type { Lanes } from './lanes.ts';
import type { Notes } from './notes.ts';
import type { Block, FunctionBuilder, Node } from './ssa.ts';
import { type Merges, type Point, repeat, type Value, type Vector } from './value.ts';
import { scalar, simdCode, wordBytes } from './wasm.ts';

/**
 * Writes the code that computes index expressions, as addresses and as lanes. Holds the values of
 * the loop counters.
 */
export class Indices {
  /** Says along which counter the SIMD lanes run. */
  vector: Vector = { variable: undefined, width: 1, unroll: 1 };
  readonly #to: FunctionBuilder;
  readonly #lanes: Lanes;
  readonly #notes: Notes;
  readonly #merges: Merges;
  readonly #bindings = new Map<string, Node>();

  constructor(to: FunctionBuilder, lanes: Lanes, notes: Notes, merges: Merges) {
    this.#to = to;
    this.#lanes = lanes;
    this.#notes = notes;
    this.#merges = merges;
  }

  /** Sets the value of a counter. All code that is written later uses this value. */
  bind(counter: Variable, value: Node): void {
    this.#bindings.set(counter.key, value);
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
   * Returns the body of the innermost loop that a point depends on, or the body of the function if
   * the point depends on no loop.
   */
  homeOf(point: Point): Block {
    const blocks = point
      .flatMap(variablesOf)
      .flatMap(({ key }) => this.#bindings.get(key)?.block ?? []);
    const { root } = this.#to;
    return blocks.reduce((best, block) => (block.depth > best.depth ? block : best), root);
  }

  /**
   * Returns the byte address of the element at `index` of a dense array (without padding) that
   * starts at `base`. `shift` selects a SIMD lane: `shift` is added to the counter that runs along
   * the lanes (`vector.variable`), wherever this counter occurs in `index`.
   */
  addressOf(base: Node, shape: ArrayShape, index: Affine, shift = 0): Node {
    this.#notes.use(index);
    return this.#sum(base, times(index, elementBytes(shape.type)), shift);
  }

  /** Returns the value of an index expression as s32, for the counter value of each lane. */
  lanesOf(index: Affine): Value {
    this.#notes.use(index);
    const { variable: along, width, unroll } = this.vector;
    const bent = along !== undefined && isNonlinearIn(index, along);
    const stride = along === undefined ? 0 : coefficientOf(index, along);
    const lanes = this.#lanes;
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

  /** Returns a v128 constant whose lane i holds (start + i) · stride. */
  #ramp(start: number, stride: number): Node {
    const words = [0, 1, 2, 3].flatMap((lane) => wordBytes((start + lane) * stride));
    return this.#to.node('v128', simdCode('const', ...words));
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
    const to = this.#to;
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
    return a === undefined ? b : this.#to.node('i32', [scalar.i32Add], a, b);
  }

  /**
   * Returns the value of an atom (a counter, quotient or clamped sum) as an i32. Returns undefined
   * for a counter that was merged into another counter.
   */
  #atom(atom: Atom, shift: number): Node | undefined {
    if (atom.kind === 'variable') return this.#counter(atom, shift);
    const of = this.#index(atom.of, shift);
    return atom.kind === 'quotient' ? this.#quotient(atom, of) : this.#clamped(atom, of);
  }

  #counter(atom: Variable, shift: number): Node | undefined {
    if (this.#merges.dropped.has(atom.key)) return undefined;
    const bound = this.#bindings.get(atom.key);
    assert(bound !== undefined, `the counter ${atom.key} has no loop`);
    if (shift === 0 || atom.key !== this.vector.variable?.key) return bound;
    return this.#to.node('i32', [scalar.i32Add], bound, this.#to.i32(shift));
  }

  #quotient({ divisor, modulus }: Quotient, of: Node): Node {
    const to = this.#to;
    const whole = divisor === 1 ? of : to.node('i32', [scalar.i32DivU], of, to.i32(divisor));
    if (modulus === Infinity) return whole;
    return to.node('i32', [scalar.i32RemU], whole, to.i32(modulus));
  }

  #clamped(atom: Clamped, of: Node): Node {
    const to = this.#to;
    const low = to.i32(atom.low);
    const high = to.i32(atom.high);
    const isUnder = to.node('i32', [scalar.i32LtS], of, low);
    const above = to.node('i32', [scalar.select], low, of, isUnder);
    const isOver = to.node('i32', [scalar.i32GtS], above, high);
    return to.node('i32', [scalar.select], high, above, isOver);
  }
}
