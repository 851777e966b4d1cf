import { type Command, Option } from 'commander';
import { datasetForms } from '../data/open.ts';
import { scheduleNames } from '../experiment/config.ts';
import { networkNames } from '../model/networks.ts';
import { recoveryPolicies } from '../pod/master.ts';

/** The flags that say what is trained and on what. */
export function withTrainFlags(command: Command): Command {
  return command
    .option('--tpus <n>', 'Cloud TPUs: 1, 2, 4, 8, 16, 32 or 64 (default 8)')
    .option('--topology <CxR>', 'grid of Cloud TPUs, columns x rows up to 8x8, instead of --tpus')
    .option('--model <name>', `network: ${networkNames.join(', ')} (default cnn)`)
    .option('--data <what>', `${datasetForms.join(', ')} (default digits)`)
    .option('--global-batch <n>', 'images a step over all cores (default 256, or one a core)')
    .option('--steps <n>', 'steps to train (default: about 25,000 images)')
    .option('--epochs <n>', 'passes over the training set, instead of --steps')
    .option('--learning-rate <x>', 'peak learning rate (default 0.03)')
    .option(
      '--schedule <name>',
      `learning rate over time: ${scheduleNames.join(', ')} (default cosine)`,
    )
    .option('--warm-up <share>', 'share of the run with a rising learning rate (default 0.1)')
    .option('--momentum <x>', 'decay of the momentum (default 0.9)')
    .option('--seed <n>', 'of the initial weights, the digits and the order (default 0)')
    .option('--precision <type>', 'what the MXU multiplies: bf16 or f32 (default bf16)')
    .option('--mxu <fidelity>', 'fast or systolic: the same bits (default fast)')
    .option(
      '--recovery <policy>',
      `when a Cloud TPU is lost: ${recoveryPolicies.join(', ')} (default none: the run ends)`,
    )
    .option('--evaluate <n>', 'held-out images to evaluate on, in whole batches (default all)')
    .option('--config <file>', 'settings from a YAML file')
    .addOption(
      new Option('--no-relaxed-simd', 'do without fused multiply-add: the same bits').default(
        undefined,
      ),
    );
}
