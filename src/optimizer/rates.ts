import { createHash, type Hash } from 'node:crypto';
import { assert } from '../numerics/assert.ts';
import { rateAt, type Schedule } from './schedule.ts';

/**
 * Learning rates of a run as f32, and a digest that is equal for two runs if their rates have the
 * same bits.
 */
export class Rates {
  readonly #schedule: Schedule;
  #hash: Hash = createHash('sha256');
  /** How many rates (one for each step, from step 0 on) `#hash` already contains. */
  #hashed = 0;

  constructor(schedule: Schedule) {
    this.#schedule = schedule;
  }

  /**
   * Returns the learning rate of the step with index `step` (from 0), bit for bit the f32 that the
   * device computes.
   */
  at(step: number): number {
    return rateAt(this.#schedule, step);
  }

  /**
   * Returns the SHA-256 of the rates of the first `steps` steps, as 64 hexadecimal digits. The
   * hashed bytes are the rates as little-endian f32. If `steps` grows from call to call, each rate
   * is computed only once.
   */
  digest(steps: number): string {
    assert(Number.isSafeInteger(steps) && steps >= 0, `the rates of ${steps} steps`);
    if (steps < this.#hashed) {
      this.#hash = createHash('sha256');
      this.#hashed = 0;
    }
    while (this.#hashed < steps) this.#hashNext(Math.min(chunkSteps, steps - this.#hashed));
    return this.#hash.copy().digest('hex');
  }

  #hashNext(count: number): void {
    const chunk = new DataView(new ArrayBuffer(4 * count));
    for (let i = 0; i < count; i++) chunk.setFloat32(4 * i, this.at(this.#hashed + i), true);
    this.#hash.update(chunk);
    this.#hashed += count;
  }
}

/** Largest number of rates that `digest` gives to the hash at once. */
const chunkSteps = 2 ** 14;
