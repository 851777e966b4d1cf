import type { Executable } from '../../src/isa/executable.ts';
import { arrayShape } from '../../src/numerics/shape.ts';
import { Tiny } from '../chip/tiny.ts';

/** Number of weights of {@link halving}. */
export const weightCount = 70;

/**
 * Returns a program that halves its weights at each step. All cores have the same weights. The
 * program sums these weights over all cores, with an all-reduce, and divides the sum by twice the
 * number of cores. The outfeed is the new weights. The program keeps the old weights until the next
 * step.
 */
export function halving(tpus: number): Executable {
  const tiny = new Tiny(8);
  const column = arrayShape('f32', [weightCount, 1]);
  const scalar = arrayShape('f32', [1, 1]);
  const weights = tiny.parameter(column);
  const one = tiny.buffer(scalar, 'core');
  tiny.copy(tiny.constant(scalar, [1]), one);
  const replicas = tiny.buffer(column, 'core');
  tiny.copy(weights, replicas);
  const gradient = tiny.buffer(column, 'chip', 'gradient');
  const size = { batch: 1, m: weightCount, n: 1, k: 1 };
  tiny.matmul(replicas, one, gradient, size, 'f32');
  const sum = tiny.allReduce(gradient);
  const updated = tiny.buffer(column, 'shared');
  tiny.matmul(sum, tiny.constant(scalar, [1 / (16 * tpus)]), updated, size, 'f32');
  const next = tiny.next(weights);
  tiny.copy(updated, next);
  tiny.outfeed(next);
  return tiny.build();
}

/**
 * Returns a program whose weights depend on its infeed. Each core halves the weights and adds
 * pixels of the first image in its infeed, one pixel to each weight. The new weights are the mean
 * of the results of all cores. The program keeps the old weights until the next step.
 */
export function learning(batch: number, tpus: number): Executable {
  const tiny = new Tiny(8);
  const row = arrayShape('f32', [1, weightCount]);
  const images = tiny.infeed(arrayShape('f32', [batch, 28, 28, 1]));
  tiny.infeed(arrayShape('s32', [batch]));
  const weights = tiny.parameter(row);
  const rows = tiny.buffer(arrayShape('f32', [2, weightCount]), 'core');
  const part = { target: rows, bytes: 4 * weightCount };
  const copy = { ...part, unit: 'copy', name: 'copy', phase: 'compute' } as const;
  tiny.add({ ...copy, source: images, sourceOffset: 4 * 28 * 12, targetOffset: 0 });
  tiny.add({ ...copy, source: weights, sourceOffset: 0, targetOffset: part.bytes });
  const factors = tiny.buffer(arrayShape('f32', [1, 2]), 'core');
  tiny.copy(tiny.constant(arrayShape('f32', [1, 2]), [1, 0.5]), factors);
  const gradient = tiny.buffer(row, 'chip', 'gradient');
  tiny.matmul(factors, rows, gradient, { batch: 1, m: 1, n: weightCount, k: 2 }, 'f32');
  const sum = tiny.allReduce(gradient);
  const next = tiny.next(weights);
  const mean = tiny.constant(arrayShape('f32', [1, 1]), [1 / (8 * tpus)]);
  tiny.matmul(mean, sum, next, { batch: 1, m: 1, n: weightCount, k: 1 }, 'f32', 'update');
  tiny.outfeed(next);
  return tiny.build();
}

/** Returns a program whose outfeed is its parameter. */
export function showing(): Executable {
  const tiny = new Tiny(8);
  tiny.outfeed(tiny.parameter(arrayShape('f32', [weightCount, 1])));
  return tiny.build();
}

/** Returns a program whose outfeed is its infeed: `batch` images and labels for each core. */
export function echo(batch: number): Executable {
  const tiny = new Tiny(8);
  const images = tiny.infeed(arrayShape('f32', [batch, 28, 28, 1]));
  const labels = tiny.infeed(arrayShape('s32', [batch]));
  tiny.outfeed(images);
  tiny.outfeed(labels);
  return tiny.build();
}

/**
 * Returns a program with a large buffer. 64 Cloud TPUs with this program need more memory than one
 * process can address.
 */
export function enormous(): Executable {
  const tiny = new Tiny(8);
  tiny.buffer(arrayShape('f32', [2 ** 26]), 'core');
  return tiny.build();
}
