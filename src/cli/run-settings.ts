import type { RunKey } from '../experiment/same-run.ts';
import { eventVersion } from '../run/event.ts';
import type { RunSettings } from '../run/schema.ts';
import type { TrainOptions } from './options.ts';

/** Returns the settings that a run writes to its folder. `key` identifies the run. */
export function settingsOfRun(
  { config, relaxedSimd, checkpoint }: TrainOptions,
  key: RunKey,
): RunSettings {
  return { v: eventVersion, key, config, relaxedSimd, checkpoint: checkpoint ?? null };
}
