/**
 * Module that Node loads first in every process of a pod (NODE_OPTIONS=--require). It breaks
 * workers at their start in the way that FAIL_WORKER names: `abort`, `engine` or `memory`. If
 * FAIL_TPU is set, it breaks only the worker of that Cloud TPU.
 */
const { FAIL_WORKER, FAIL_TPU, TPU_WORKER_ID } = process.env;
const isWorker = /cluster.worker.main/.test(process.argv[1] ?? '');

if (isWorker && (FAIL_TPU === undefined || FAIL_TPU === TPU_WORKER_ID)) {
  if (FAIL_WORKER === 'abort') process.abort();
  if (FAIL_WORKER === 'engine') {
    process.stderr.write('FATAL ERROR: Reached heap limit - JavaScript heap out of memory\n');
    process.exit(134);
  }
  if (FAIL_WORKER === 'memory') {
    WebAssembly.Memory = function Memory() {
      throw new RangeError('could not allocate memory');
    };
  }
}
