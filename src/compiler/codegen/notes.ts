import type { HloInstruction } from '../../hlo/instruction.ts';
import { assert } from '../../numerics/assert.ts';
import { type Affine, nested, type Variable } from './affine.ts';

/** A condition 0 ≤ place ≤ last that loops may be cut by. */
export interface Guard {
  readonly place: Affine;
  readonly last: number;
}
export interface Load {
  readonly parameter: number;
  readonly index: Affine;
}

/** The most values that a generated function may compute; `supports` refuses a larger one. */
export const largestFunction = 12_000;

/** Work above what a reduction needs once, in elements, that is not worth a refusal. */
const smallWork = 16_384;

/** What the code asked for while it was written: the plan for writing it better follows from it. */
export class Notes {
  /** Sums of counters, with those inside of quotients. */
  readonly uses: Map<string, Affine> = new Map();
  readonly guards: Guard[] = [];
  readonly loads: Load[] = [];
  /** Elements of select-and-scatter that were asked for before they were known. */
  readonly scattered: { readonly it: HloInstruction; readonly point: readonly Affine[] }[] = [];
  /** Counters of loops that lie directly in one another, outermost first. */
  readonly nests: (readonly Variable[])[] = [];
  isTooLarge: boolean = false;
  isWasteful: boolean = false;
  readonly #kind: 'draft' | 'final';
  readonly #limit: number;

  /**
   * Of a draft, written to learn from and thrown away, or of the final code. `limit`: values after
   * which the rest of the function does not matter.
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

  /** A reduction that takes `work` elements in all, of an array of `elements`. */
  fold(work: number, elements: number): void {
    if (work > 2 * elements && work > smallWork) this.isWasteful = true;
  }

  /** Is a function of so many values beyond the limit? */
  tooLarge(size: number): boolean {
    this.isTooLarge ||= size > this.#limit;
    return this.isTooLarge;
  }
}
