import { assert } from '../numerics/assert.ts';
import { type Dataset, pixelsOf } from './dataset.ts';

/**
 * Returns how many bytes of storage {@link cached} needs to keep the first `samples` samples of a
 * dataset in memory.
 */
export function cacheBytes(dataset: Dataset, samples: number): number {
  return Math.min(samples, dataset.size) * (pixelsOf(dataset) + 1);
}

/**
 * Returns a dataset with the same samples, to the bit. `storage` keeps as many of the first samples
 * as fit. `storage` must be zeroed before its first use and must serve only this dataset.
 *
 * Threads may share `storage` without locks. All threads write the same bytes for a sample, and
 * each thread writes the pixels before the label. A sample counts as stored once its label is
 * there.
 */
export function cached(dataset: Dataset, storage: ArrayBufferLike): Dataset {
  const area = pixelsOf(dataset);
  assert(dataset.classes < 256, `${dataset.classes} classes do not fit a byte`);
  const room = Math.min(Math.floor(storage.byteLength / (area + 1)), dataset.size);
  const images = new Uint8Array(storage, 0, room * area);
  /** Label + 1 of each stored sample; 0 for a sample that is not stored yet. */
  const marks = new Uint8Array(storage, room * area, room);
  return {
    ...dataset,
    sample: (index, pixels, offset) => {
      if (index >= room) return dataset.sample(index, pixels, offset);
      const from = index * area;
      const mark = Atomics.load(marks, index);
      if (mark > 0) {
        for (let i = 0; i < area; i++) pixels[offset + i] = images[from + i]!;
        return mark - 1;
      }
      const label = dataset.sample(index, pixels, offset);
      for (let i = 0; i < area; i++) images[from + i] = pixels[offset + i]!;
      Atomics.store(marks, index, label + 1);
      return label;
    },
  };
}
