import type { HloInstruction } from '../../hlo/instruction.ts';
import { assert } from '../../numerics/assert.ts';
import { type Affine, nested, type Variable } from './affine.ts';

/** A condition 0 ≤ place ≤ last. Loops may be cut where it begins or ceases to hold. */
export interface Guard {
  readonly place: Affine;
  readonly last: number;
}
export interface Load {
  readonly parameter: number;
  readonly index: Affine;
}

/** Most values that a generated function may compute. `supports` refuses a larger function. */
export const largestFunction = 12_000;

/** Number of elements up to which a reduction may fold elements repeatedly without a refusal. */
const smallWork = 16_384;

/**
 * Record of what the code of a nest reads and computes, made while it is written. A draft's notes
 * decide how the final code is split, cut and merged.
 */
export class Notes {
  /** Index expressions in use, by key, with those inside of quotients and clamps. */
  readonly uses: Map<string, Affine> = new Map();
  readonly guards: Guard[] = [];
  readonly loads: Load[] = [];
  /** Elements of a select-and-scatter that were requested before they were computed. */
  readonly scattered: { readonly it: HloInstruction; readonly point: readonly Affine[] }[] = [];
  /** Nests: counters of loops that lie directly in one another, outermost first. */
  readonly nests: (readonly Variable[])[] = [];
  isTooLarge: boolean = false;
  isWasteful: boolean = false;
  readonly #kind: 'draft' | 'final';
  readonly #limit: number;

  /**
   * `draft` is for code that is thrown away, `final` for code that runs. `limit`: number of values
   * above which the function is too large.
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

  /** Records a reduction of an array of `elements` that folds `work` elements in all. */
  fold(work: number, elements: number): void {
    if (work > 2 * elements && work > smallWork) this.isWasteful = true;
  }

  /** Returns true, and records it, if a function of `size` values is above the limit. */
  tooLarge(size: number): boolean {
    this.isTooLarge ||= size > this.#limit;
    return this.isTooLarge;
  }
}
