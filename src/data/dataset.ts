import { createHash } from 'node:crypto';
import { assert } from '../numerics/assert.ts';

/**
 * Labelled images. `sample` is a pure function of the index, the same to the bit on every machine
 * and engine, so that any thread can make any sample at any time. Pixels are bytes: what training
 * sees is `normalisation[byte]`, so a cache of bytes is exact.
 */
export interface Dataset {
  readonly name: string;
  /** Samples of an epoch. */
  readonly size: number;
  readonly rows: number;
  readonly columns: number;
  readonly channels: number;
  readonly classes: number;
  /** The f32 value of each of the 256 pixel values. */
  readonly normalisation: Float32Array;
  /**
   * Writes sample `index` of [0, size) as rows · columns · channels bytes, row-major, channel
   * innermost, to `pixels` from `offset`; returns its label in [0, classes).
   */
  sample(index: number, pixels: Uint8Array, offset: number): number;
  /**
   * Names the contents: 64 hexadecimal digits, the same for the same samples wherever they are read
   * from. Computed when it is first asked for.
   */
  digest(): string;
}

/** What one experiment reads: samples to learn from, and others to be judged by. */
export interface DatasetPair {
  readonly train: Dataset;
  readonly test: Dataset;
  /** What the user should know of the files that were read, each in one line. */
  readonly notes: readonly string[];
}

/** Bytes of one sample. */
export function pixelsOf(dataset: Pick<Dataset, 'rows' | 'columns' | 'channels'>): number {
  return dataset.rows * dataset.columns * dataset.channels;
}

/** (byte / 255 - mean) / deviation in f32, for every byte. */
export function normalisationTable(mean: number, deviation: number): Float32Array {
  assert(deviation > 0, `deviation ${deviation} is not positive`);
  return Float32Array.from({ length: 256 }, (_, byte) => (byte / 255 - mean) / deviation);
}

/** SHA-256 over parts, each with its length before it, computed once when it is first asked for. */
export function contentDigest(parts: readonly (string | Uint8Array)[]): () => string {
  let found: string | undefined;
  return () => {
    found ??= digestOf(parts);
    return found;
  };
}

function digestOf(parts: readonly (string | Uint8Array)[]): string {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(`${part.length}:`).update(part);
  return hash.digest('hex');
}
