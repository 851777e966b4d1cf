import { type PlannedRun, runWithoutFaults } from '../cli/planned-run.ts';
import { keyOf } from '../experiment/same-run.ts';
import type { Observation } from '../fault/verdict.ts';

/** Runs without faults that this process has trained or is training, by {@link keyOfRun}. */
const trained = new Map<string, Promise<Observation>>();

/**
 * Returns the run without faults that belongs to a planned run. Each such run is trained once in a
 * process: plans whose runs have the same bits share it.
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
 * A simulated run has bits of its own, which depend on the size of the slice and on the batches of
 * the evaluation.
 */
function keyOfRun({ ground, facts, opened }: PlannedRun): string {
  return JSON.stringify([ground === 'sim', facts, keyOf(opened.identity)]);
}
