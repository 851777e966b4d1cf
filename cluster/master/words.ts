import { Command } from 'commander';
import { type TrainOptions, trainOptions } from '../../src/cli/options.ts';
import { addTrain } from '../../src/cli/train.ts';
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
