import type { Command } from 'commander';
import { pino } from 'pino';
import { exitCodeOf, onEnd } from '../../cluster/host/ending.ts';
import { openThreadPod } from '../../cluster/threads/pool.ts';
import type { TrainConfig } from '../experiment/config.ts';
import { openRun } from '../experiment/open-run.ts';
import { train } from '../experiment/train.ts';
import { outliveFileLimit } from '../files/write.ts';
import { PodError } from '../numerics/error.ts';
import { oneLine } from '../numerics/quote.ts';
import { logEvent } from '../observe/log.ts';
import { Progress } from '../observe/progress.ts';
import type { OpenPod } from '../pod/pod.ts';
import { openPlan } from './checkpoint-plan.ts';
import { printPass } from './compile.ts';
import { exitCodes } from './exit-codes.ts';
import { LogFile } from './log-file.ts';
import { type CheckpointOptions, type RawOptions, trainOptions } from './options.ts';
import { ReportFile } from './report-file.ts';
import { screenOf } from './screen.ts';
import { addSettingFlags } from './settings/command.ts';

const examples = `
Examples:
  pod train                                          the default: cnn on digits, 8 Cloud TPUs
  pod train --tpus 64 --steps 20                     a whole pod: 512 cores
  pod train --model mlp --global-batch 1024          a batch of 1024 images: 16 for each core
  pod train --data mnist:DIR --epochs 5              MNIST from the files in DIR
  pod train --config run.yaml --report run.json      settings from one file, results into another
  pod train --checkpoint DIR --every 50 --resume     continues where it was stopped, with the same bits
  pod train --start-from DIR --steps 50              a new run that begins with the weights of DIR

The keys of a --config file are the names of flags (model: cnn, globalBatch: 512); flags override the file.
Relative paths in the file start at the folder in which pod is called.
--resume continues the run of the newest good checkpoint. The run may be made longer (--steps 60 after
30) if the finished steps keep their learning rates, as with --schedule constant --warm-up 0.
--start-from begins a new run at step 0, of any length and schedule; only the weights come from the
checkpoint.
The first Ctrl-C, SIGTERM or SIGHUP ends the run after the present step, with a last checkpoint if
--checkpoint is given; the second ends the run at once. The run continues if nobody reads its output.
With --resume, the run appends to the file of --log; otherwise it replaces the file. The run continues if
the log cannot be written. --log and --report may name a device or a pipe, such as /dev/stdout.
${exitCodes}`;

/** `pod train`: trains a network in this process. */
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
  outliveFileLimit();
  const openPod: OpenPod = (options) => openThreadPod({ ...options, relaxed: output.relaxedSimd });
  const log = output.log === undefined ? undefined : openLog(output.log, output, progress);
  const logger = log && pino({ base: { job: process.pid } }, log);
  const report = output.report === undefined ? undefined : new ReportFile(output.report);
  try {
    const opened = await openRun(config);
    for (const note of opened.dataset.notes) warn(note);
    const checkpoints = output.checkpoint && (await openPlan(output.checkpoint, 'pod train'));
    const shouldStop = onSignals(() => progress.end());
    const world = { openPod, now, opened, shouldStop, ...(checkpoints && { checkpoints }) };
    for await (const event of train(config, world)) {
      progress.show(event);
      // The first event is `started`. The checks that can refuse the run are all done when the
      // second event comes. Only then do the report and the log touch their files, so a refused run
      // changes no file.
      if (event.kind !== 'started') {
        report?.begin();
        log?.begin();
      }
      if (logger !== undefined) logEvent(logger, event);
      if (event.kind !== 'finished') continue;
      const text = `${JSON.stringify(event.report, undefined, 2)}\n`;
      if (output.json) process.stdout.write(text);
      report?.write(text);
    }
  } catch (error) {
    progress.end();
    logger?.error({ code: error instanceof PodError ? error.code : undefined }, String(error));
    throw error;
  } finally {
    report?.close();
  }
  finish([log?.lost, report?.lost]);
}

/**
 * Throws PodError `io` if an output was lost. If the exit code is set already, because a signal
 * stopped the run, prints a warning instead. `losses` has one element for each output: a message if
 * the output was lost, otherwise undefined.
 */
function finish(losses: readonly (string | undefined)[]): void {
  const lost = losses.filter((it) => it !== undefined);
  if (lost.length === 0) return;
  const message = `output was lost: ${lost.join('; ')}`;
  if ((process.exitCode ?? 0) === 0) throw new PodError('io', message);
  warn(message);
}

function openLog(path: string, { checkpoint }: Output, progress: Progress): LogFile {
  return new LogFile({
    path,
    isAppended: checkpoint?.resume === true,
    onLoss(why) {
      progress.end();
      warn(`${why}; the run continues without its log`);
    },
  });
}

function warn(text: string): void {
  process.stderr.write(`pod: ${oneLine(text)}\n`);
}

/**
 * Handles Ctrl-C, SIGTERM and SIGHUP. At the first signal, calls `announce` and prints a message;
 * the run ends after the step that is running, with a last checkpoint. A second signal ends the
 * process at once. Returns a function that is true after the first signal.
 */
function onSignals(announce: () => void): () => boolean {
  let signalled = false;
  onEnd((signal) => {
    signalled = true;
    process.exitCode = exitCodeOf(signal);
    announce();
    process.stderr.write(
      `pod: ${signal}: the run ends after this step; a second signal ends it at once\n`,
    );
  });
  return () => signalled;
}
