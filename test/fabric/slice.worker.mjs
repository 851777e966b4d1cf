// Program of a thread that runs one worker of a slice. It is plain JavaScript and imports the
// compiled sources.
import { parentPort, workerData } from 'node:worker_threads';

const { torus, worker, memory, layout, buckets, runs, role, deadlineMs } = workerData;
const compiled = (file) => import(new URL(`../../dist/src/fabric/${file}.js`, import.meta.url));
const { Collectives } = await compiled('collectives');
const { Doorbell } = await compiled('doorbell');
const { memoryLinks } = await compiled('memory-link');
const { sumKernels } = await compiled('kernels/sum');

const doorbell = new Doorbell(memory, layout, worker);
const allReduce = new Collectives({
  ...{ torus, worker, doorbell, collectives: buckets, generation: 1 },
  kernels: sumKernels(memory),
  links: memoryLinks(memory, layout, torus, doorbell),
  now: () => performance.now(),
});
parentPort.postMessage({ kind: 'ready' });
parentPort.once('message', () => {
  try {
    for (let run = 0; run < runs; run++) {
      buckets.forEach((_, bucket) => {
        allReduce.start(bucket);
        allReduce.progress();
      });
      if (role === 'stall') {
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
      }
      buckets.forEach((_, bucket) => {
        allReduce.finish(bucket, performance.now() + deadlineMs);
      });
    }
    parentPort.postMessage({ kind: 'done' });
  } catch (error) {
    parentPort.postMessage({ kind: 'failed', code: error.code, message: error.message });
  }
});
