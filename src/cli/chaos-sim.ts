import {
  logOf,
  type SimulatedOutcome,
  type SimulatedRun,
  simulateRun,
} from '../../cluster/simulated/run.ts';
import type { OpenedRun } from '../experiment/open-run.ts';
import { compileFor, trainingStep } from '../experiment/programs.ts';
import { maxColumns, maxRows, parseTopology, type Topology } from '../fabric/torus.ts';
import type { RunFacts } from '../fault/check.ts';
import type { Fault, FaultPlan } from '../fault/plan.ts';
import { type SeenEvent, seenIn } from '../fault/seen.ts';
import type { Observation } from '../fault/verdict.ts';
import { writeOutput } from '../files/write.ts';
import { messageOf, PodError } from '../numerics/error.ts';
import type { TrainOptions } from './options.ts';
import { disagreementsIn } from './simulated-agreement.ts';

/** Largest grid of a simulated slice. No real pod has so many Cloud TPUs. */
const most: Topology = { columns: 32, rows: 32 };

/**
 * A fault plan, and its topology if this is larger than any real pod. Such a topology is taken out
 * of the plan. Any other topology stays in the plan, and `topology` is undefined.
 */
export interface Enlarged {
  readonly plan: FaultPlan;
  readonly topology: Topology | undefined;
}

/**
 * Takes the topology out of the settings of a plan if this topology is larger than any real pod.
 * Only the simulation can use it, so the other settings are checked without it. `settingName` is
 * the name of the topology in messages.
 */
export function withoutLargeGrid(plan: FaultPlan, settingName: string): Enlarged {
  const { topology: text, ...run } = plan.run;
  if (typeof text !== 'string') return { plan, topology: undefined };
  const topology = parseTopology(text, settingName, most);
  if (topology.columns <= maxColumns && topology.rows <= maxRows) {
    return { plan, topology: undefined };
  }
  return { plan: { ...plan, run }, topology };
}

/** The run that a fault plan describes. The checks of the plan use `facts`. */
export interface SimulatedPlan {
  readonly options: TrainOptions;
  readonly opened: OpenedRun;
  readonly facts: RunFacts;
}

/**
 * Simulates a run and returns what was seen of it. After the end of the run, calls `tell` for each
 * of its events. If `log` is given, all events of the simulation are written to that file.
 */
export async function inSimulation(
  planned: SimulatedPlan,
  faults: readonly Fault[],
  tell: (event: SeenEvent) => void,
  log?: string,
): Promise<Observation> {
  const outcome = await simulateRun(simulatedRunOf(planned, faults));
  const observation = seenInSimulation(outcome, planned.facts.topology);
  if (log !== undefined) writeLog(log, outcome);
  for (const event of seenIn(observation)) tell(event);
  return observation;
}

/** Results of {@link bucketsOf}. The key is made of the model and the shape of the data. */
const bucketsFound = new Map<string, number>();

/**
 * Returns the number of buckets of gradients of a run. It depends only on the model and the shape
 * of the data. To find it, the training program is compiled. This takes some hundred ms, so it is
 * done only once for each model and shape.
 */
export function bucketsOf({ options: { config }, opened, facts }: SimulatedPlan): number {
  const { classes, rows, columns, channels } = opened.dataset.train;
  const key = JSON.stringify([config.model, classes, rows, columns, channels]);
  const found = bucketsFound.get(key);
  if (found !== undefined) return found;
  const { module } = trainingStep(config, opened.dataset, facts.steps);
  const { buckets } = compileFor(module);
  bucketsFound.set(key, buckets.length);
  return buckets.length;
}

/**
 * Returns the run to simulate for a fault plan. The steps, checkpoints and recovery policy are
 * those of the options. The weights are simulated.
 */
export function simulatedRunOf(planned: SimulatedPlan, faults: readonly Fault[]): SimulatedRun {
  const { options, facts } = planned;
  const { config, checkpoint } = options;
  const { topology, steps, evaluationSteps } = facts;
  return {
    ...{ topology, steps, evaluationSteps, faults },
    ...{ buckets: bucketsOf(planned), recovery: config.recovery, seed: config.seed },
    ...(checkpoint && { checkpointEvery: checkpoint.every, checkpointsKept: checkpoint.keep }),
  };
}

/** Returns what was seen of a simulated run on a slice of the given topology. */
export function seenInSimulation(
  outcome: SimulatedOutcome,
  { columns, rows }: Topology,
): Observation {
  const { observation, evaluation } = outcome;
  const disagreements = disagreementsIn(outcome, columns * rows);
  return { ...observation, evaluation, disagreements };
}

function writeLog(path: string, outcome: SimulatedOutcome): void {
  try {
    writeOutput(path, Buffer.from(logOf(outcome)));
  } catch (error) {
    throw new PodError('io', `--log ${path}: ${messageOf(error)}`, error);
  }
}
