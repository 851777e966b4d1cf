import { assert } from '../numerics/assert.ts';
import { contentDigest, type Dataset, type DatasetPair, normalisationTable } from './dataset.ts';
import { fetchAgain, type IdxFile, IdxFolder, malformed } from './idx.ts';

/**
 * Handwritten digits from the IDX files of MNIST in the folder `dir`, gzipped or not. If the folder
 * has `train-*` files, they are the training set and the `t10k-*` files are the test set. If the
 * folder has only `t10k-*` files, the first four fifths of their images are the training set and
 * the last fifth is the test set. Headers, lengths and labels are checked before any sample is
 * used. [LeCun, Cortes, Burges, the MNIST database: file formats]
 *
 * @throws PodError `bad-data` if a file is missing or wrong. The message is one line. It names the
 *   file and says what was expected, what was found and what to do.
 */
export function mnist(dir: string): DatasetPair {
  const folder = new IdxFolder(dir);
  const tested = readPair(folder, 't10k');
  if (['images-idx3', 'labels-idx1'].some((part) => folder.has(`train-${part}-ubyte`))) {
    return {
      train: dataset('mnist train', whole(readPair(folder, 'train'))),
      test: dataset('mnist test', whole(tested)),
      notes: folder.notes,
    };
  }
  const { images, labels } = tested;
  const cut = Math.floor(labels.count * trainingShare);
  if (cut === 0) {
    throw malformed(
      images.path,
      'at least 2 images to split',
      `${labels.count}`,
      'add the files train-*',
    );
  }
  return {
    train: dataset('mnist train', { ...whole(tested), count: cut }),
    test: dataset('mnist test', { ...whole(tested), start: cut, count: labels.count - cut }),
    notes: folder.notes,
  };
}

/** Share of the `t10k` images that become the training set if there are no `train` files. */
const trainingShare = 0.8;
const side = 28;
const classes = 10;

/**
 * Mean and standard deviation of the pixels of the 60,000 training images. A black pixel counts as
 * 0 and a white pixel as 1.
 */
const pixelMean = 0.1307;
const pixelDeviation = 0.3081;

/** Part of the images in memory: the images [start, start + count) with their labels. */
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

function readPair(folder: IdxFolder, part: 'train' | 't10k'): Pair {
  const images = folder.read(`${part}-images-idx3-ubyte`, [side, side]);
  const labels = folder.read(`${part}-labels-idx1-ubyte`, []);
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
    throw malformed(
      labels.path,
      'labels 0 to 9',
      `label ${labels.data[stray]} of image ${stray}`,
      fetchAgain,
    );
  }
  return { images, labels };
}
