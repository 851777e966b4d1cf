import {
  type SimulatedOutcome,
  type SimulatedRun,
  simulateRun,
} from '../../../cluster/simulated/run.ts';

/** Notes of a run, each as its event and the number of the Cloud TPU: `lost 3`. */
export function notesOf({ observation }: Pick<SimulatedOutcome, 'observation'>): readonly string[] {
  return observation.notes.map(({ note }) => `${note.event} ${note.tpu}`);
}

/** Digests of the committed steps of a run. */
export function digestsOf({
  observation,
}: Pick<SimulatedOutcome, 'observation'>): readonly string[] {
  return observation.commits.map(({ digest }) => digest);
}

/** Digests and losses of all steps and of all batches of the evaluation. */
export function resultOf({ observation, evaluation }: SimulatedOutcome): readonly unknown[] {
  return [...observation.commits, ...evaluation].map(({ digest, loss }) => [digest, loss]);
}

const known = new WeakMap<SimulatedRun, Promise<SimulatedOutcome>>();

/** Outcome of the run without faults. The same object `run` is simulated only once. */
export function undisturbed(run: SimulatedRun): Promise<SimulatedOutcome> {
  const outcome = known.get(run) ?? simulateRun({ ...run, faults: [] });
  known.set(run, outcome);
  return outcome;
}
