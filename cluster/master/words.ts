import { join } from 'node:path';
import { Command } from 'commander';
import { type TrainOptions, trainOptions } from '../../src/cli/options.ts';
import { addTrain } from '../../src/cli/train.ts';
import { cloudTpus } from '../../src/experiment/config.ts';
import { PodError } from '../../src/numerics/error.ts';

/** What a cluster does where `pod train` would do something else: it is there to outlive losses. */
const inClusters = { recovery: 'replace' } as const;

/**
 * Reads words exactly as `pod train` reads its flags, and runs nothing.
 *
 * @throws PodError and CommanderError naming what is wrong.
 */
export function readWords(words: readonly string[]): TrainOptions {
  const program = new Command().exitOverride().configureOutput({ writeErr: () => {} });
  addTrain(program);
  let options: TrainOptions | undefined;
  const command = program.commands[0]?.copyInheritedSettings(program);
  command?.action((flags: Readonly<Record<string, unknown>>) => {
    options = trainOptions(flags, inClusters);
  });
  program.parse(['train', ...words], { from: 'user' });
  if (options === undefined) throw new PodError('bad-flag', 'expected flags of pod train');
  return options;
}

/** Flags that name files, or output, of the machine that a job is sent from: the master has its own. */
const ownWords = ['--log', '--report', '--checkpoint', '--resume', '--json', '--print'];

/**
 * Reads the words of a job for a pod of `tpus` Cloud TPUs, all of which it takes unless it says
 * otherwise. Its checkpoints are kept in its folder.
 *
 * @throws PodError and CommanderError naming what is wrong.
 */
export function readJobWords(words: readonly string[], folder: string, tpus: number): TrainOptions {
  const own = words.find((word) => ownWords.includes(word.split('=')[0] ?? ''));
  if (own !== undefined) {
    throw new PodError('bad-flag', `${own}: a job has a log, a report and checkpoints of its own`);
  }
  const kept = ['--checkpoint', join(folder, 'checkpoints'), '--resume'];
  const isSized = words.some((word) => /^--(tpus|topology)(=|$)/.test(word));
  const options = readWords([...words, ...kept, ...(isSized ? [] : ['--tpus', String(tpus)])]);
  const asked = cloudTpus(options.config);
  if (asked <= tpus) return options;
  throw new PodError(
    'bad-flag',
    `--tpus: expected at most ${tpus}, as the pod has, found ${asked}`,
  );
}
