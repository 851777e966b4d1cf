import { at } from '../numerics/assert.ts';
import { laneCount } from './part.ts';
import type { Direction, Torus } from './torus.ts';
import { allDirections, chipsOf, directions, enteringLinks, linkInto } from './torus.ts';

/** How many lanes use a link: one of each colour. */
const lanesALink = 2;

/**
 * Times for which the lanes of one worker waited for frames, summed for each link. A lane is a
 * quarter of the vector of one chip. These times are measured on the *clock of waits*, which stands
 * still while the worker computes. So a missing frame adds no wait while the worker computes.
 *
 * No method except {@link take} allocates memory.
 */
export class LinkWaits {
  /**
   * The time on the clock of waits, in ms. It is stored in an array of one element, because writing
   * to the array allocates no memory.
   */
  readonly #clockMs = new Float64Array(1);
  /** For each lane of the worker: the time, on the clock of waits, at which its last wait began. */
  readonly #sinceMs: Float64Array;
  /**
   * For each link that enters a chip of the worker: the sum of the waits on it. The index of a link
   * in this array is 4 · (index of the chip) + direction.
   */
  readonly #sumsMs: Float64Array;
  /** Index in `#sumsMs` of each link that comes from another worker. */
  readonly #entering: readonly number[];

  constructor(torus: Torus, worker: number) {
    const chips = chipsOf(torus, worker);
    this.#sinceMs = new Float64Array(chips.length * laneCount);
    this.#sumsMs = new Float64Array(chips.length * directions.length);
    const links = chips.flatMap((chip) =>
      allDirections.map((direction) => linkInto(torus, chip, direction)),
    );
    this.#entering = enteringLinks(torus, worker).map((link) => links.indexOf(link));
  }

  /**
   * Lets `ms` ms pass on the clock of waits. A negative time, of a clock that jumped, is ignored.
   */
  advance(ms: number): void {
    if (ms > 0) this.#clockMs[0]! += ms;
  }

  /** Called when lane `lane` of the chip with index `index` begins to wait for a frame. */
  begin(index: number, lane: number): void {
    this.#sinceMs[index * laneCount + lane] = this.#clockMs[0]!;
  }

  /**
   * Called when lane `lane` of a chip has received the frame for which it waited. The frame came
   * over the link that enters the chip in `direction`. `index` is the index of the chip on its
   * worker.
   */
  end(index: number, lane: number, direction: Direction): void {
    const sinceMs = this.#sinceMs[index * laneCount + lane]!;
    this.#sumsMs[index * directions.length + direction]! += this.#clockMs[0]! - sinceMs;
  }

  /**
   * Returns the waits that have ended since the last call, in ms. There is one entry for each link
   * that comes from another worker, in the order of `enteringLinks`. The two lanes that use a link
   * may wait at the same time, so the sum of their waits can be longer than the time that has
   * passed. An entry is therefore the mean of the two lanes.
   */
  take(): number[] {
    const waits = this.#entering.map((link) => at(this.#sumsMs, link) / lanesALink);
    this.#sumsMs.fill(0);
    return waits;
  }
}
