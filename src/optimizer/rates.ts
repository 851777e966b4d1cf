import { createHash, type Hash } from 'node:crypto';
import { assert } from '../numerics/assert.ts';
import { rateAt, type Schedule } from './schedule.ts';

/**
 * Learning rates of a run as f32, and a digest of these rates. If the rates of two runs have the
 * same bits, the runs have equal digests.
 */
export class Rates {
  readonly #schedule: Schedule;
  #hash: Hash = createHash('sha256');
  /** Number of rates that `#hash` already contains: those of the steps 0 … `#hashed` − 1. */
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
   * hashed bytes are the rates as little-endian f32. Each rate is computed only once if no call has
   * a smaller `steps` than the call before it.
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
