// Test program: trains in threads with recovery. Prints a line at step 5. When a line of input
// arrives, ends the thread of Cloud TPU 0. Its exit code is that of the error that ends the run.
// With the argument `blind`, it does not check the limit of threads before it starts a thread, so
// that the system refuses the thread.
const compiled = (file) => import(new URL(`../../dist/${file}.js`, import.meta.url));
if (process.argv[2] === 'blind') process.getuid = () => 0;

const { openThreadPod } = await compiled('cluster/threads/pool');
const { trainOptions } = await compiled('src/cli/options');
const { train } = await compiled('src/experiment/train');
const { config } = trainOptions({
  ...{ model: 'mlp', tpus: 2, steps: 200, evaluate: 16, globalBatch: 16, recovery: 'replace' },
});

let pod;
const openPod = async (options) => {
  pod = await openThreadPod(options);
  return pod;
};
const tell = (event) => {
  if (event.kind !== 'step' || event.step !== 5) return;
  process.stdout.write('at step 5\n');
  process.stdin.once('data', () => pod.kill(0));
};
try {
  await train(config, { openPod, now: () => performance.now(), tell });
  process.stdout.write('the run went on to its end\n');
} catch (error) {
  process.stdout.write(`${error.code}: ${error.message}\n`);
  process.exitCode = error.exitCode;
}
process.stdin.destroy();
