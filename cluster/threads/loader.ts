import { cacheBytes, cached } from '../../src/data/cache.ts';
import { InfeedQueue } from '../../src/data/infeed.ts';
import { loaderLoop } from '../../src/data/loader.ts';
import { at } from '../../src/numerics/assert.ts';
import { datasetOf, passFrom, planOf } from '../runtime/feed.ts';
import { infeedGeometry } from '../runtime/layout.ts';
import type { LoaderTask } from '../runtime/task.ts';

/** Largest size, in bytes, of the cache of samples. */
const cacheBytesMax = 96 * 2 ** 20;

/**
 * Entry function of a loader thread: fills the infeed queues of one program on all Cloud TPUs until
 * the loader is told to stop.
 */
export default function runLoader(task: LoaderTask): void {
  const { program, programs, feed, memory, layout, fromStep } = task;
  const { executable } = at(programs, program);
  const source = datasetOf(feed);
  const plan = planOf(feed, source.size, layout.tpus.length, executable.cores);
  const storage = new ArrayBuffer(Math.min(cacheBytes(source, source.size), cacheBytesMax));
  const dataset = cached(source, storage);
  const queues = layout.tpus.map(({ infeeds }, tpu) => {
    const place = at(infeeds, program);
    return new InfeedQueue(memory.buffer, place, infeedGeometry(executable, tpu));
  });
  const words = new Int32Array(memory.buffer);
  // The loader waits for a free slot without a limit. Slots may stay full for long, for example
  // while another program runs, so a long wait is no error. If slots stay full because a Cloud TPU
  // is lost, the master notices the loss.
  const patienceMs = Number.POSITIVE_INFINITY;
  const shouldStop = (): boolean => Atomics.load(words, layout.stop / 4) !== 0;
  for (let from = fromStep; !shouldStop(); ) {
    const pass = passFrom(feed, dataset, plan, from, fromStep);
    if (loaderLoop(queues, pass, { patienceMs, shouldStop }) === 'stopped') return;
    from += pass.steps;
  }
}
