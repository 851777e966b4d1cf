import { formatTopology } from '../fabric/torus.ts';
import type { RunSettings } from '../run/schema.ts';
import { flagOf, type SettingKey, schema } from './settings/schema.ts';
import { joinWords } from './settings/words.ts';

/**
 * Returns the command line that trains the run of these settings again, from the beginning of the
 * run even if it was resumed. The command line names every setting on which the weights depend. So
 * it gives the same weights even if a later version has other defaults.
 */
export function repeatTraining({ config, relaxedSimd, checkpoint }: RunSettings): string {
  const { topology, length, evaluate, startFrom } = config;
  const values: Partial<Record<SettingKey, string | number | undefined>> = {
    topology: formatTopology(topology),
    ...{ model: config.model, data: config.data, globalBatch: config.globalBatch },
    ...(length.unit === 'steps' ? { steps: length.steps } : { epochs: length.epochs }),
    ...{ learningRate: config.learningRate, schedule: config.schedule, warmUp: config.warmUp },
    ...{ momentum: config.momentum, seed: config.seed, precision: config.precision },
    ...{ mxu: config.mxu, recovery: config.recovery, evaluate, startFrom },
    ...(checkpoint && { checkpoint: checkpoint.directory, every: checkpoint.every }),
    ...(checkpoint && { keep: checkpoint.keep }),
  };
  const words = Object.entries(values).flatMap(([key, value]) =>
    value === undefined ? [] : [flagOf(key as SettingKey), String(value)],
  );
  return joinWords(['pod', 'train', ...words, ...(relaxedSimd ? [] : [schema.relaxedSimd.flag])]);
}

/** Returns the command line that runs the fault plan of a run folder again. */
export function repeatPlan(plan: string, ground: string): string {
  return joinWords(['pod', 'chaos', 'run', plan, '--ground', ground]);
}
