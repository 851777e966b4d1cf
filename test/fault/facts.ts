import type { CaseRun } from '../../src/fault/case.ts';
import type { RunFacts } from '../../src/fault/check.ts';

/** Returns the facts by which a plan for the run of a case is checked. */
export function factsOf({ topology, steps, batches, checkpointEvery }: CaseRun): RunFacts {
  return { topology, steps, evaluationSteps: batches, checkpointEvery, cores: 8 };
}
