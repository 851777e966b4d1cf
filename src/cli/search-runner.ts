import { join } from 'node:path';
import {
  type SimulatedOutcome,
  type SimulatedRun,
  simulateRun,
} from '../../cluster/simulated/run.ts';
import { type Case, planOf } from '../fault/case.ts';
import { type Ending, type Violation, violationsIn } from '../fault/invariants.ts';
import type { Fault, FaultPlan, Ground } from '../fault/plan.ts';
import type { Observation } from '../fault/verdict.ts';
import { at } from '../numerics/assert.ts';
import { messageOf } from '../numerics/error.ts';
import { seenInSimulation, simulatedRunOf } from './chaos-sim.ts';
import { faultFreeRun } from './fault-free.ts';
import { Interrupted } from './interrupted.ts';
import { withOwnFolder } from './own-folder.ts';
import { openPlanned, type PlannedRun, runWithFaults } from './planned-run.ts';

/** Result of a case that was run. */
export interface Tried {
  readonly plan: FaultPlan;
  readonly violations: readonly Violation[];
  /** Faults of the plan that were injected. */
  readonly injected: readonly Fault[];
  readonly ending: Ending;
}

/** Runs cases and checks the invariants. */
export interface Runner {
  /** True if a case always ends in the same way, so that a plan can be shrunk. */
  readonly isRepeatable: boolean;
  /**
   * Runs a case. An error that the run throws is part of the result.
   *
   * @throws Interrupted if a signal ended the pod.
   */
  try(it: Case): Promise<Tried>;
}

/** Trains a planned run with its faults, and returns what was seen. */
type Train = (planned: PlannedRun) => Promise<Observation>;

/** Simulates a run. Tests replace it by a function with a defect. */
export type Simulate = (run: SimulatedRun) => Promise<SimulatedOutcome>;

/**
 * Returns a runner that simulates cases. It runs a case as `pod chaos run --ground sim` runs the
 * plan of the case.
 */
export function simulatingRunner(simulate: Simulate = simulateRun): Runner {
  const train: Train = async (planned) => {
    const run = simulatedRunOf(planned, planned.plan.faults);
    return seenInSimulation(await simulate(run), planned.facts.topology);
  };
  return { isRepeatable: true, try: (it) => tried(planOf(it, 'sim'), {}, 'sim', train) };
}

/**
 * Returns a runner of cases in real pods: of threads, processes or containers. It runs a case as
 * `pod chaos run` runs the plan of the case, but saves the checkpoints in a folder of their own. A
 * real pod runs in real time, so the same case may end in another way the next time. Plans are
 * therefore not shrunk.
 */
export function podRunner(ground: Exclude<Ground, 'sim'>): Runner {
  const train: Train = (planned) => runWithFaults(planned, () => undefined);
  return {
    isRepeatable: false,
    try(it) {
      return withOwnFolder('search', (folder) => {
        const plan = planOf(it, ground);
        const place = 'checkpoint' in plan.run ? { checkpoint: join(folder, 'checkpoints') } : {};
        return tried(plan, place, ground, train);
      });
    },
  };
}

/** Runs a plan and checks the invariants. `place` replaces settings that are paths. */
async function tried(
  plan: FaultPlan,
  place: FaultPlan['run'],
  ground: Ground,
  train: Train,
): Promise<Tried> {
  const planned = await openPlanned(
    {
      plan: { ...plan, run: { ...plan.run, ...place } },
      placeOf: () => 'a drawn plan',
      settingName: (key) => `run.${key} of a drawn plan`,
    },
    ground,
  );
  const reference = await faultFreeRun(planned);
  const ending = await endOf(planned, train);
  const injections = ending.kind === 'ended' ? ending.seen.injections : [];
  const indices = new Set(injections.map(({ index }) => index));
  return {
    plan,
    violations: violationsIn(plan, ending, reference, ground),
    injected: plan.faults.filter((_, index) => indices.has(index)),
    ending,
  };
}

async function endOf(planned: PlannedRun, train: Train): Promise<Ending> {
  try {
    return { kind: 'ended', seen: withPlannedIndices(await train(planned), planned) };
  } catch (error) {
    if (error instanceof Interrupted) throw error;
    // An error of a run after its first step is part of the observation and is not thrown. A thrown
    // error is an error before the first step or a failed assertion. No drawn plan may cause
    // either, so the program has a mistake. The caller reports the error as a broken invariant.
    return { kind: 'threw', message: messageOf(error) };
  }
}

/**
 * Returns a copy of `seen` in which each injection has the index of its fault in the plan as it was
 * drawn. In `seen`, an injection has an index into the schedule, where the loss of a row or column
 * is replaced by several kills.
 */
function withPlannedIndices(seen: Observation, { schedule }: PlannedRun): Observation {
  const injections = seen.injections.flatMap(({ index, ms }) => {
    const { planned } = at(schedule, index);
    return planned === null ? [] : [{ index: planned, ms }];
  });
  return { ...seen, injections };
}
