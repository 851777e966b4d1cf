import type { RunKey } from '../experiment/same-run.ts';
import { eventVersion } from '../run/event.ts';
import type { RunSettings } from '../run/schema.ts';
import type { TrainOptions } from './options.ts';
import type { RecordedStart } from './run-folder.ts';

/**
 * Returns what the folder of `--run` must know about a run. `key` identifies the run. The run
 * counts as continued in two cases: an earlier master began the run (`isContinued`), or the run
 * resumes from a checkpoint.
 */
export function recordedStart(
  options: TrainOptions,
  key: RunKey,
  isContinued = false,
): RecordedStart {
  const continues = isContinued || options.checkpoint?.resume === true;
  return { settings: settingsOfRun(options, key), continues };
}

/** Returns the settings that a run writes to its folder. */
function settingsOfRun(
  { config, relaxedSimd, checkpoint }: TrainOptions,
  key: RunKey,
): RunSettings {
  return { v: eventVersion, key, config, relaxedSimd, checkpoint: checkpoint ?? null };
}
