import { createHash, type Hash } from 'node:crypto';
import { assert } from '../numerics/assert.ts';
import { rateAt, type Schedule } from './schedule.ts';

/** The learning rates of a run as f32, and a digest that identifies them by their bits. */
export class Rates {
  readonly #schedule: Schedule;
  #hash: Hash = createHash('sha256');
  /** Number of steps whose rates are in the hash. */
  #hashed = 0;

  constructor(schedule: Schedule) {
    this.#schedule = schedule;
  }

  /** Learning rate of a step (from 0), equal to the f32 that the device computes. */
  at(step: number): number {
    return rateAt(this.#schedule, step);
  }

  /**
   * SHA-256 of the rates of the first `steps` steps, as little-endian f32: 64 hexadecimal digits.
   * Calls with growing `steps` compute each rate once.
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

/** Most rates in one update of the hash. */
const chunkSteps = 2 ** 14;
