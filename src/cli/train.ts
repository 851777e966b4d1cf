import type { Command } from 'commander';
import { exitCodeOf, onEnd } from '../../cluster/host/ending.ts';
import { openThreadPod } from '../../cluster/threads/pool.ts';
import { type OpenedRun, openRun } from '../experiment/open-run.ts';
import { train } from '../experiment/train.ts';
import { outliveFileLimit } from '../files/write.ts';
import { PodError } from '../numerics/error.ts';
import { oneLine } from '../numerics/quote.ts';
import { Progress } from '../observe/progress.ts';
import { failed } from '../run/event.ts';
import { RunStream } from '../run/stream.ts';
import { openPlan } from './checkpoint-plan.ts';
import { printPass } from './compile.ts';
import { exitCodes } from './exit-codes.ts';
import { type RawOptions, type TrainOptions, trainOptions } from './options.ts';
import { screenOf } from './screen.ts';
import { addSettingFlags } from './settings/command.ts';
import type { TrainFaults } from './train-faults.ts';
import { TrainOutputs } from './train-outputs.ts';

const examples = `
Examples:
  pod train                                          the default: cnn on digits, 8 Cloud TPUs
  pod train --tpus 64 --steps 20                     a whole pod: 512 cores
  pod train --model mlp --global-batch 1024          a batch of 1024 images: 16 for each core
  pod train --data mnist:DIR --epochs 5              MNIST from the files in DIR
  pod train --config run.yaml --report run.json      settings from one file, results into another
  pod train --checkpoint DIR --every 50 --resume     continues where it was stopped, with the same bits
  pod train --run DIR                                records the run: its events, settings and result
  pod train --start-from DIR --steps 50              a new run that begins with the weights of DIR
  pod train --recovery replace --fault kill:3@10/reduce-scatter
                                                     kills Cloud TPU 3 in the all-reduce of step 10

The keys of a --config file are the names of flags (model: cnn, globalBatch: 512); flags override the file.
Relative paths in the file start at the folder in which pod is called.
--resume continues the run of the newest good checkpoint. The run may be made longer (--steps 60 after
30) if the finished steps keep their learning rates, as with --schedule constant --warm-up 0.
--start-from begins a new run, of any length and schedule; only the weights come from the
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
    .option(
      '--fault <fault>',
      'inject a fault, such as kill:3@10/reduce-scatter; may be given several times (docs/FAULTS.md)',
      (text: string, before: readonly string[]) => [...before, text],
      [],
    )
    .addHelpText('after', examples)
    .action(async ({ fault = [], ...flags }: TrainFlags) => {
      const options = trainOptions(flags);
      if (options.print !== undefined) {
        printPass(options.config, options.print);
        return;
      }
      await run(options, fault);
    });
}

/** Flags of `pod train`. `fault` has the value of each flag `--fault`. */
type TrainFlags = RawOptions & { readonly fault?: readonly string[] };

/** Trains a run. `faultTexts` are the faults to inject, in the form of the command line. */
async function run(options: TrainOptions, faultTexts: readonly string[]): Promise<void> {
  const { config, checkpoint, json, relaxedSimd } = options;
  const now = (): number => performance.now();
  const progress = new Progress(screenOf(json ? process.stderr : process.stdout), now);
  outliveFileLimit();
  const outputs = new TrainOutputs(options, (why) => {
    progress.end();
    warn(why);
  });
  const stream = new RunStream([progress, outputs]);
  stream.generation = 1;
  try {
    const opened = await openRun(config);
    for (const note of opened.dataset.notes) warn(note);
    const faults = await openFaults(faultTexts, options, opened);
    outputs.check(opened.identity);
    const checkpoints = checkpoint && (await openPlan(checkpoint, 'pod train'));
    const end = await train(config, {
      ...{ now, opened, shouldStop: onSignals(() => progress.end()) },
      openPod: (podOptions) =>
        openThreadPod({
          ...{ ...podOptions, relaxed: relaxedSimd, faults: faults?.faults ?? [] },
          onFault(index) {
            const text = faults?.inject(index);
            if (text === undefined) return;
            progress.end();
            warn(`injected: --fault ${text}`);
          },
        }),
      tell: (event) => stream.tell(event),
      onMembership(generation) {
        stream.generation = generation;
      },
      ...(checkpoints && { checkpoints }),
    });
    for (const text of faults?.missed ?? []) warn(`never injected: --fault ${text}`);
    if (end.kind === 'done') {
      stream.tell({ kind: 'finished', report: end.report });
      if (end.unsaved !== undefined) throw end.unsaved;
    }
  } catch (error) {
    progress.end();
    stream.tell(failed(error));
    throw error;
  } finally {
    stream.end();
  }
  finish(outputs.lost);
}

/**
 * Checks the flags `--fault` of a run; returns undefined if there are none. The code for faults is
 * loaded only if it is needed, so that other runs start faster.
 */
async function openFaults(
  texts: readonly string[],
  options: TrainOptions,
  opened: OpenedRun,
): Promise<TrainFaults | undefined> {
  if (texts.length === 0) return undefined;
  const { TrainFaults } = await import('./train-faults.ts');
  return new TrainFaults(texts, options, opened);
}

/**
 * Throws PodError `io` if an output was lost. But if a signal stopped the run, the exit code of the
 * signal is set already, and the function only prints a warning. `lost` has a message for each lost
 * output.
 */
function finish(lost: readonly string[]): void {
  if (lost.length === 0) return;
  const message = `output was lost: ${lost.join('; ')}`;
  if ((process.exitCode ?? 0) === 0) throw new PodError('io', message);
  warn(message);
}

function warn(text: string): void {
  process.stderr.write(`pod: ${oneLine(text)}\n`);
}

/**
 * Handles Ctrl-C, SIGTERM and SIGHUP. At the first signal, calls `announce` and prints a message. A
 * second signal ends the process at once.
 *
 * Returns a function that is true once the first signal has come. The run calls this function
 * before every step. If it is true, the run writes a last checkpoint, if it keeps checkpoints, and
 * ends.
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
