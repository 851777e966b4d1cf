/**
 * Trains on eight Cloud TPUs and breaks one of them after step 7. The run must then end with an
 * error that names the broken Cloud TPU. Prints the error, and the time, in ms, from the end of
 * step 7 to the error.
 *
 *   node dist/scripts/break-worker.js throw|exit|hang|kill
 *
 * The exit code is 3, like that of `pod train` after the loss of a Cloud TPU. It is 1 if the run
 * finishes without an error.
 */
import { Argument } from 'commander';
import { openThreadPod, type ThreadPod } from '../cluster/threads/pool.ts';
import { trainOptions } from '../src/cli/options.ts';
import type { TrainEvent } from '../src/experiment/event.ts';
import { train } from '../src/experiment/train.ts';
import type { Fault } from '../src/fault/plan.ts';
import { PodError } from '../src/numerics/error.ts';
import type { PodOptions } from '../src/pod/pod.ts';
import { script } from './command.ts';

const kinds = ['throw', 'exit', 'hang', 'kill'] as const;
const command = script(
  'break-worker',
  'break one Cloud TPU in the middle of a run, and print the time until the run names it (exit code 3, as pod train)',
  'hang',
).addArgument(new Argument('<how>', 'how the Cloud TPU breaks').choices(kinds));
const [kind] = command.parse().processedArgs as [(typeof kinds)[number]];
const tpu = 5;
const atStep = 7;

await breakWorker(kind);

async function breakWorker(how: (typeof kinds)[number]): Promise<void> {
  const { config } = trainOptions({ model: 'mlp', tpus: 8, steps: 100, evaluate: 64 });
  let pod: ThreadPod | undefined;
  let brokenMs = 0;
  const openPod = async (options: PodOptions): Promise<ThreadPod> => {
    const faults: Fault[] = how === 'kill' ? [] : [{ fault: how, tpu, at: { step: atStep + 1 } }];
    pod = await openThreadPod({ ...options, faults });
    return pod;
  };
  try {
    const tell = (event: TrainEvent): void => {
      if (event.kind !== 'step' || event.step !== atStep) return;
      // To `kill`, this script itself kills the worker 2 ms from now, in the middle of the next
      // step. All other faults are in the fault plan of the pod. So the pod itself injects them in
      // the next step.
      brokenMs = performance.now();
      if (how === 'kill') setTimeout(() => pod?.kill(tpu), 2);
    };
    await train(config, { openPod, now: () => performance.now(), tell });
    process.stderr.write('break-worker: the run finished as if no Cloud TPU had been broken\n');
    process.exitCode = 1;
  } catch (error) {
    if (!(error instanceof PodError)) throw error;
    const ms = (performance.now() - brokenMs).toFixed(0);
    process.stdout.write(
      `${how}: the Cloud TPU was named after ${ms} ms: ${error.code}: ${error.message}\n`,
    );
    process.exitCode = error.exitCode;
  }
}
