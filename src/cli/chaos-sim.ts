import { logOf, type SimulatedOutcome, simulateRun } from '../../cluster/simulated/run.ts';
import type { OpenedRun } from '../experiment/open-run.ts';
import { buildPrograms } from '../experiment/programs.ts';
import { maxColumns, maxRows, parseTopology, type Topology } from '../fabric/torus.ts';
import type { RunFacts } from '../fault/check.ts';
import type { Fault, FaultPlan } from '../fault/plan.ts';
import type { Observation } from '../fault/verdict.ts';
import { writeOutput } from '../files/write.ts';
import { PodError } from '../numerics/error.ts';
import { noteLine } from './chaos-observation.ts';
import type { TrainOptions } from './options.ts';

/** Largest grid of a simulated slice. No real pod has so many Cloud TPUs. */
const most: Topology = { columns: 32, rows: 32 };

/**
 * A fault plan without its topology, and that topology. If the topology is not larger than a real
 * pod allows, the plan keeps it and `topology` is undefined.
 */
export interface Enlarged {
  readonly plan: FaultPlan;
  readonly topology: Topology | undefined;
}

/**
 * Takes the topology out of the settings of a plan if this topology is larger than any real pod.
 * Only the simulation can use such a topology, so the other settings are checked without it. The
 * returned `topology` is the one that was taken out; undefined if none was.
 */
export function withoutLargeGrid(plan: FaultPlan, path: string): Enlarged {
  const { topology: text, ...run } = plan.run;
  if (typeof text !== 'string') return { plan, topology: undefined };
  const topology = parseTopology(text, `run.topology in ${path}`, most);
  if (topology.columns <= maxColumns && topology.rows <= maxRows) {
    return { plan, topology: undefined };
  }
  return { plan: { ...plan, run }, topology };
}

/** The run that a fault plan describes. The checks of the plan use `facts`. */
interface SimulatedPlan {
  readonly options: TrainOptions;
  readonly opened: OpenedRun;
  readonly facts: RunFacts;
}

/**
 * Simulates a run and records what happens. The run has the steps, the buckets, the checkpoints and
 * the recovery policy of the options, but simulated weights. If `log` is given, all events of the
 * simulation are written to that file.
 */
export async function inSimulation(
  { options: { config, checkpoint }, opened, facts }: SimulatedPlan,
  faults: readonly Fault[],
  say: (line: string) => void,
  log?: string,
): Promise<Observation> {
  const { topology, steps, evaluationSteps } = facts;
  const { train } = buildPrograms(config, opened.dataset, steps);
  const outcome = await simulateRun({
    ...{ topology, steps, evaluationSteps, faults },
    ...{ buckets: train.buckets.length, recovery: config.recovery, seed: config.seed },
    ...(checkpoint !== undefined && { checkpointEvery: checkpoint.every }),
  });
  const { observation } = outcome;
  for (const { note } of observation.notes) say(noteLine(note));
  if (log !== undefined) writeLog(log, outcome);
  return observation;
}

function writeLog(path: string, outcome: SimulatedOutcome): void {
  try {
    writeOutput(path, Buffer.from(logOf(outcome)));
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new PodError('io', `--log ${path}: ${why}`, error);
  }
}
