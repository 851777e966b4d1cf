/**
 * Preloaded into every process of a pod (NODE_OPTIONS=--require): breaks workers as they start, in the
 * way that FAIL_WORKER names. FAIL_TPU limits that to one Cloud TPU.
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
