import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { assert } from '../numerics/assert.ts';
import { PodError } from '../numerics/error.ts';
import { contentDigest, type Dataset, type DatasetPair, normalisationTable } from './dataset.ts';

/**
 * Handwritten digits in the IDX files of MNIST, gzipped or not, from the folder `dir`. With
 * `train-*` there, they train and `t10k-*` test; with `t10k-*` alone, the first four fifths of it
 * train and the rest test. Every byte that means something is checked before anything is used.
 * [LeCun, Cortes, Burges, the MNIST database: file formats]
 *
 * @throws PodError `bad-data`: one line with the file, what was expected, what was found, what to do.
 */
export function mnist(dir: string): DatasetPair {
  const tested = readPair(dir, 't10k');
  if (['images-idx3', 'labels-idx1'].some((part) => find(dir, `train-${part}-ubyte`))) {
    return {
      train: dataset('mnist train', whole(readPair(dir, 'train'))),
      test: dataset('mnist test', whole(tested)),
    };
  }
  const { images, labels } = tested;
  const cut = Math.floor(labels.count * trainingShare);
  if (cut === 0) {
    throw malformed(images.path, 'at least 2 images to split', `${labels.count}`, 'add train-*');
  }
  return {
    train: dataset('mnist train', { ...whole(tested), count: cut }),
    test: dataset('mnist test', { ...whole(tested), start: cut, count: labels.count - cut }),
  };
}

/** Of `t10k`, where there is no `train`. */
const trainingShare = 0.8;
const side = 28;
const classes = 10;

/** More than ten times the 60,000 images: what claims to be larger is not MNIST. */
const bytesMax = 2 ** 29;

/** Of the pixels of the 60,000 training images, in units of white = 1. */
const pixelMean = 0.1307;
const pixelDeviation = 0.3081;

/** Images [start, start + count) of those in memory. */
interface Range {
  readonly images: Uint8Array;
  readonly labels: Uint8Array;
  readonly start: number;
  readonly count: number;
}

function dataset(name: string, { images, labels, start, count }: Range): Dataset {
  return {
    name,
    size: count,
    rows: side,
    columns: side,
    channels: 1,
    classes,
    normalisation: normalisationTable(pixelMean, pixelDeviation),
    sample: (index, pixels, offset) => {
      assert(index >= 0 && index < count, `sample ${index} of ${count}`);
      const from = (start + index) * side * side;
      for (let i = 0; i < side * side; i++) pixels[offset + i] = images[from + i]!;
      return labels[start + index]!;
    },
    digest: contentDigest([
      'mnist',
      images.subarray(start * side * side, (start + count) * side * side),
      labels.subarray(start, start + count),
    ]),
  };
}

function whole({ images, labels }: Pair): Range {
  return { images: images.data, labels: labels.data, start: 0, count: labels.count };
}

interface Pair {
  readonly images: IdxFile;
  readonly labels: IdxFile;
}

function readPair(dir: string, part: 'train' | 't10k'): Pair {
  const images = readIdx(dir, `${part}-images-idx3-ubyte`, [side, side]);
  const labels = readIdx(dir, `${part}-labels-idx1-ubyte`, []);
  if (images.count !== labels.count) {
    throw malformed(
      labels.path,
      `${images.count} labels, one for each image`,
      `${labels.count}`,
      'take both files from the same source',
    );
  }
  const stray = labels.data.findIndex((label) => label >= classes);
  if (stray >= 0) {
    throw malformed(labels.path, 'labels 0 to 9', `${labels.data[stray]} at ${stray}`, fetchAgain);
  }
  return { images, labels };
}

/** The elements of one file, after its header: `count` items of equal size. */
interface IdxFile {
  readonly path: string;
  readonly count: number;
  readonly data: Uint8Array;
}

const fetchAgain = 'fetch the file again';

/** IDX: 0, 0, type (8: unsigned bytes), rank, then each dimension as a big-endian u32, then data. */
function readIdx(dir: string, name: string, itemDims: readonly number[]): IdxFile {
  const path = find(dir, name);
  if (path === undefined) {
    throw malformed(join(dir, name), `this file, or ${name}.gz`, 'neither', 'name another folder');
  }
  const bytes = contents(path);
  const rank = itemDims.length + 1;
  const header = 4 + 4 * rank;
  const magic = [0, 0, 8, rank];
  if (!magic.every((byte, i) => byte === bytes[i])) {
    const found = `[${bytes.subarray(0, 4).join(' ')}]`;
    throw malformed(path, `the magic bytes [${magic.join(' ')}]`, found, fetchAgain);
  }
  if (bytes.length < header) {
    throw malformed(path, `a header of ${header} bytes`, `${bytes.length} bytes`, fetchAgain);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const dims = itemDims.map((_, i) => view.getUint32(8 + 4 * i));
  if (!dims.every((size, i) => size === itemDims[i])) {
    throw malformed(path, `items of ${itemDims.join('×')}`, dims.join('×'), fetchAgain);
  }
  const count = view.getUint32(4);
  if (count === 0) throw malformed(path, 'at least one item', 'none', fetchAgain);
  const length = header + count * itemDims.reduce((product, size) => product * size, 1);
  if (bytes.length !== length) {
    const expected = `${length} bytes for ${count} items`;
    throw malformed(path, expected, `${bytes.length}`, fetchAgain);
  }
  return { path, count, data: bytes.subarray(header) };
}

/** Path of the file, or of it gzipped, if either is there. */
function find(dir: string, name: string): string | undefined {
  return [name, `${name}.gz`].map((file) => join(dir, file)).find((path) => existsSync(path));
}

/** What is in the file, unpacked. */
function contents(path: string): Uint8Array {
  const packed = read(path);
  if (!path.endsWith('.gz')) return packed;
  try {
    return gunzipSync(packed, { maxOutputLength: bytesMax });
  } catch (cause) {
    const what = `gzip of at most ${bytesMax} bytes`;
    throw malformed(path, what, reason(cause), fetchAgain, cause);
  }
}

function read(path: string): Uint8Array {
  try {
    const { size } = statSync(path);
    if (size > bytesMax) {
      throw malformed(path, `at most ${bytesMax} bytes`, `${size}`, fetchAgain);
    }
    return readFileSync(path);
  } catch (cause) {
    if (cause instanceof PodError) throw cause;
    throw malformed(path, 'a file to read', reason(cause), 'check its type and rights', cause);
  }
}

function reason(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}

function malformed(
  path: string,
  expected: string,
  found: string,
  advice: string,
  cause?: unknown,
): PodError {
  return new PodError(
    'bad-data',
    `${path}: expected ${expected}, found ${found}; ${advice}`,
    cause,
  );
}
