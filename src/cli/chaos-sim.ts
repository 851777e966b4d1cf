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
 * returned `topology` is the one that was taken out; undefined if none was. `settingName` is the name
 * of the topology in messages.
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
 * Simulates a run and records what happens; tells the events of the run after its end. If `log` is
 * given, all events of the simulation are written to that file.
 */
export async function inSimulation(
  planned: SimulatedPlan,
  faults: readonly Fault[],
  tell: (event: SeenEvent) => void,
  log?: string,
): Promise<Observation> {
  const outcome = await simulateRun(simulatedRunOf(planned, faults, bucketsOf(planned)));
  const observation = seenInSimulation(outcome, planned.facts.topology);
  if (log !== undefined) writeLog(log, outcome);
  for (const event of seenIn(observation)) tell(event);
  return observation;
}

/** Numbers of buckets that {@link bucketsOf} has found, by model and shape of the data. */
const bucketsFound = new Map<string, number>();

/**
 * Returns the number of buckets of gradients of a run. It depends only on the model and the shape of
 * the data. The training program is compiled for this, which takes some hundred ms, but only once
 * for all runs with the same model and shape.
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
 * Returns the simulated run of a fault plan. It has the steps, the checkpoints and the recovery
 * policy of the options, but simulated weights.
 */
export function simulatedRunOf(
  { options: { config, checkpoint }, facts }: SimulatedPlan,
  faults: readonly Fault[],
  buckets: number,
): SimulatedRun {
  const { topology, steps, evaluationSteps } = facts;
  return {
    ...{ topology, steps, evaluationSteps, faults },
    ...{ buckets, recovery: config.recovery, seed: config.seed },
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
