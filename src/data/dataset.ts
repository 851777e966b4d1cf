import { createHash } from 'node:crypto';
import { assert } from '../numerics/assert.ts';

/**
 * A set of labelled images. `sample` is a pure function of the index and gives the same bits on
 * every machine and engine, so any thread can produce any sample at any time. Each pixel is a byte.
 * Training converts the byte to f32 by the table `normalisation`.
 */
export interface Dataset {
  readonly name: string;
  /** Number of samples, which is also the length of an epoch. */
  readonly size: number;
  readonly rows: number;
  readonly columns: number;
  readonly channels: number;
  readonly classes: number;
  /** Normalised f32 value of each of the 256 pixel values. */
  readonly normalisation: Float32Array;
  /**
   * Writes the pixels of sample `index`, in [0, size), to `pixels` from `offset` on: rows · columns
   * · channels bytes, row-major, channel innermost. Returns the label of the sample, in [0,
   * classes).
   */
  sample(index: number, pixels: Uint8Array, offset: number): number;
  /**
   * Digest of the samples: 64 hexadecimal digits. Equal samples have equal digests, wherever the
   * samples are stored. The digest is computed on the first call.
   */
  digest(): string;
}

/** Data of one experiment: samples to train on, and held-out samples to evaluate on. */
export interface DatasetPair {
  readonly train: Dataset;
  readonly test: Dataset;
  /** Notes for the user about the files that were read, one line each. */
  readonly notes: readonly string[];
}

/** Returns how many bytes a sample has. Each pixel of each channel is one byte. */
export function pixelsOf(dataset: Pick<Dataset, 'rows' | 'columns' | 'channels'>): number {
  return dataset.rows * dataset.columns * dataset.channels;
}

/** Returns the table of (byte / 255 - mean) / deviation in f32, for all 256 bytes. */
export function normalisationTable(mean: number, deviation: number): Float32Array {
  assert(deviation > 0, `deviation ${deviation} is not positive`);
  return Float32Array.from({ length: 256 }, (_, byte) => (byte / 255 - mean) / deviation);
}

/**
 * Returns a function that computes the SHA-256 digest of all parts, each preceded by its length.
 * The function computes the digest on its first call and remembers it.
 */
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
