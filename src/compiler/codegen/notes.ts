import type { HloInstruction } from '../../hlo/instruction.ts';
import { assert } from '../../numerics/assert.ts';
import { type Affine, nested, type Variable } from './affine.ts';

/**
 * A guard: the condition 0 ≤ place ≤ last, which tells elements of an array from padding. Loops may
 * be cut at the counter values at which the condition becomes true or false.
 */
export interface Guard {
  readonly place: Affine;
  readonly last: number;
}
export interface Load {
  readonly parameter: number;
  readonly index: Affine;
}

/** Size limit of a generated function, in computed values. `supports` refuses a larger function. */
export const largestFunction = 12_000;

/**
 * A reduction that folds at most this many elements in total is accepted even if it folds the same
 * elements several times.
 */
const smallWork = 16_384;

/**
 * Record of what the code of a nest reads and computes, filled while the code is written. A draft
 * is written first, only for its notes. These notes decide how the final code splits dimensions,
 * cuts the iteration space and merges loops.
 */
export class Notes {
  /**
   * Index expressions that the code uses, each under its `key` (its text). Sums inside quotients
   * and clamped sums have entries of their own.
   */
  readonly uses: Map<string, Affine> = new Map();
  readonly guards: Guard[] = [];
  readonly loads: Load[] = [];
  /** Elements of a select-and-scatter that the code needs but that no earlier code has computed. */
  readonly scattered: { readonly it: HloInstruction; readonly point: readonly Affine[] }[] = [];
  /** One entry for each nest of loops: the counters of the nest, outermost first. */
  readonly nests: (readonly Variable[])[] = [];
  isTooLarge: boolean = false;
  isWasteful: boolean = false;
  readonly #kind: 'draft' | 'final';
  readonly #limit: number;

  /**
   * `kind` says what happens to the code: a `draft` is discarded, `final` code runs. A function
   * that computes more than `limit` values is too large.
   */
  constructor(kind: 'draft' | 'final', limit: number = Number.POSITIVE_INFINITY) {
    this.#kind = kind;
    this.#limit = limit;
  }

  use(index: Affine): void {
    if (this.uses.has(index.key)) return;
    for (const sum of nested(index)) this.uses.set(sum.key, sum);
  }

  guard(place: Affine, last: number): void {
    this.guards.push({ place, last });
  }

  load(parameter: number, index: Affine): void {
    this.loads.push({ parameter, index });
  }

  scatter(it: HloInstruction, point: readonly Affine[]): void {
    assert(this.#kind === 'draft', 'a select-and-scatter is known where its elements are used');
    this.scattered.push({ it, point });
  }

  nest(counters: readonly Variable[]): void {
    this.nests.push(counters);
  }

  /**
   * Records a reduction. `work` is the number of elements that the reduction folds in total;
   * `elements` is the number that it would fold if it computed each element of the result once. The
   * reduction is wasteful if `work` is more than twice `elements` and more than `smallWork`.
   */
  fold(work: number, elements: number): void {
    if (work > 2 * elements && work > smallWork) this.isWasteful = true;
  }

  /**
   * Returns true if a function of `size` values is above the limit, and records that in
   * `isTooLarge`. Once a function is too large, the result stays true.
   */
  tooLarge(size: number): boolean {
    this.isTooLarge ||= size > this.#limit;
    return this.isTooLarge;
  }
}
