import { type RecordedRun, readRun } from 'tpu-pod';

/** Reads the losses of a run that `pod train --run` recorded. */
export function losses(folder: string): readonly number[] {
  const run: RecordedRun = readRun(folder);
  return run.events.flatMap((event) => (event.kind === 'step' ? [event.loss] : []));
}
