import { writeFileSync } from 'node:fs';
import type { Command } from 'commander';
import { destination, type Logger, pino } from 'pino';
import { exitCodeOf, onEnd } from '../../cluster/host/ending.ts';
import { openThreadPod } from '../../cluster/threads/pool.ts';
import { openCheckpoints } from '../experiment/checkpoint/checkpoints.ts';
import type { CheckpointPlan } from '../experiment/checkpoint/keeper.ts';
import type { TrainConfig } from '../experiment/config.ts';
import type { Report } from '../experiment/event.ts';
import { train } from '../experiment/train.ts';
import { PodError } from '../numerics/error.ts';
import { logEvent } from '../observe/log.ts';
import { Progress } from '../observe/progress.ts';
import type { OpenPod } from '../pod/pod.ts';
import { printPass } from './compile.ts';
import { exitCodes } from './exit-codes.ts';
import { type CheckpointOptions, type RawOptions, trainOptions } from './options.ts';
import { screenOf } from './screen.ts';
import { addSettingFlags } from './settings/command.ts';

const examples = `
Examples:
  pod train                                          the default: cnn on digits, 8 Cloud TPUs
  pod train --tpus 64 --steps 20                     a whole pod: 512 cores
  pod train --model mlp --global-batch 1024          a batch of 16 a core
  pod train --data mnist:DIR --epochs 5              MNIST from DIR
  pod train --config run.yaml --report run.json      settings from a file, results into one
  pod train --checkpoint DIR --every 50 --resume     goes on where it was stopped, with the same bits
  pod train --start-from DIR --steps 50              a new run that begins with the weights of DIR

A file for --config has the flags as keys (model: cnn, globalBatch: 512); flags win over it. Paths in it
are those of the folder in which pod is called.
--resume goes on with the run of the checkpoint. It may be longer (--steps 60 after 30) if the learning
rates of the steps that are done stay the same bits, as with --schedule constant --warm-up 0.
--start-from begins a new run at step 0 with only the weights of a checkpoint, of any length and schedule.
Ctrl-C, SIGTERM and SIGHUP let the step that runs end, save if there is a --checkpoint, and end the
run; a second one ends it at once. Output that nobody takes any more does not stop a run.
${exitCodes}`;

/** `pod train`: the main job. */
export function addTrain(program: Command): void {
  const command = program.command('train').description('train a network on emulated Cloud TPUs');
  addSettingFlags(command, 'train')
    .addHelpText('after', examples)
    .action(async (flags: RawOptions) => {
      const options = trainOptions(flags);
      if (options.print !== undefined) {
        printPass(options.config, options.print);
        return;
      }
      await run(options.config, options);
    });
}

interface Output {
  readonly log: string | undefined;
  readonly report: string | undefined;
  readonly json: boolean;
  readonly relaxedSimd: boolean;
  readonly checkpoint: CheckpointOptions | undefined;
}

async function run(config: TrainConfig, output: Output): Promise<void> {
  const now = (): number => performance.now();
  const progress = new Progress(screenOf(output.json ? process.stderr : process.stdout), now);
  const logger = output.log === undefined ? undefined : openLog(output.log);
  const openPod: OpenPod = (options) => openThreadPod({ ...options, relaxed: output.relaxedSimd });
  try {
    const checkpoints = output.checkpoint && (await planOf(output.checkpoint));
    const shouldStop = onSignals(() => progress.end());
    const world = { openPod, now, shouldStop, ...(checkpoints && { checkpoints }) };
    for await (const event of train(config, world)) {
      progress.show(event);
      if (logger !== undefined) logEvent(logger, event);
      if (event.kind === 'finished') deliver(event.report, output);
    }
  } catch (error) {
    progress.end();
    logger?.error({ code: error instanceof PodError ? error.code : undefined }, String(error));
    throw error;
  }
}

/**
 * The first signal lets the step end, saves and ends the run; the second ends the process at once.
 * Returns whether one has come; `announce` is called before it is said.
 */
function onSignals(announce: () => void): () => boolean {
  let signalled = false;
  onEnd((signal) => {
    signalled = true;
    process.exitCode = exitCodeOf(signal);
    announce();
    process.stderr.write(`pod: ${signal}: ending after this step; once more ends at once\n`);
  });
  return () => signalled;
}

async function planOf(options: CheckpointOptions): Promise<CheckpointPlan> {
  const { directory, every, keep, resume } = options;
  return { checkpoints: await openCheckpoints(directory, { keep }), every, resume };
}

function deliver(report: Report, { report: file, json }: Output): void {
  const text = `${JSON.stringify(report, undefined, 2)}\n`;
  if (json) process.stdout.write(text);
  if (file === undefined) return;
  try {
    writeFileSync(file, text);
  } catch (cause) {
    throw new PodError(
      'io',
      `--report ${file}: could not be written: ${(cause as Error).message}`,
      cause,
    );
  }
}

function openLog(file: string): Logger {
  try {
    return pino(
      { base: { job: process.pid } },
      destination({ dest: file, sync: true, append: false }),
    );
  } catch (cause) {
    throw new PodError(
      'io',
      `--log ${file}: could not be written: ${(cause as Error).message}`,
      cause,
    );
  }
}
