import { keyOf } from '../experiment/same-run.ts';
import type { Observation } from '../fault/verdict.ts';
import { type PlannedRun, runWithoutFaults } from './planned-run.ts';

/**
 * The runs without faults that this process has trained or is training. Keys are those of
 * {@link keyOfRun}.
 */
const trained = new Map<string, Promise<Observation>>();

/**
 * Returns what was seen of the run without faults with which a planned run is compared. If the runs
 * of several plans have the same bits, the process trains the run without faults only once for all
 * of them.
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
 * Returns a key. If two planned runs have the same key, their runs without faults are the same. The
 * key contains more than {@link keyOf}, because simulated and trained runs differ in their bits.
 * The bits of a simulated run also depend on the size of the slice and on the batches of the
 * evaluation, both in `facts`. They do not depend on checkpoints.
 */
function keyOfRun({ ground, facts: ofRun, opened }: PlannedRun): string {
  const { checkpointEvery: _, buckets: __, ...facts } = ofRun;
  return JSON.stringify([ground === 'sim', facts, keyOf(opened.identity)]);
}
