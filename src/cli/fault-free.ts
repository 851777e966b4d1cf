import { keyOf } from '../experiment/same-run.ts';
import type { Observation } from '../fault/verdict.ts';
import { type PlannedRun, runWithoutFaults } from './planned-run.ts';

/**
 * The runs without faults that this process has trained or is training. Keys are those of
 * {@link keyOfRun}.
 */
const trained = new Map<string, Promise<Observation>>();

/**
 * Returns the run without faults with which a planned run is compared. A process trains each run
 * without faults only once: all plans whose runs have the same bits get the same run.
 */
export function faultFreeRun(planned: PlannedRun): Promise<Observation> {
  const key = keyOfRun(planned);
  const found = trained.get(key);
  if (found !== undefined) return found;
  const run = runWithoutFaults(planned);
  trained.set(key, run);
  // A run that could not be trained, for example for lack of memory, is tried again the next time.
  run.catch(() => trained.delete(key));
  return run;
}

/**
 * Returns a text that is equal for two planned runs only if their runs without faults are the same.
 * {@link keyOf} alone does not suffice, because a simulated run does not have the bits of a trained
 * run. Its bits depend on the size of the slice and the batches of the evaluation, both in `facts`.
 */
function keyOfRun({ ground, facts, opened }: PlannedRun): string {
  return JSON.stringify([ground === 'sim', facts, keyOf(opened.identity)]);
}
