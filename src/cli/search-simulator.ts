import {
  type SimulatedOutcome,
  type SimulatedRun,
  simulateRun,
} from '../../cluster/simulated/run.ts';
import { type Case, planOf } from '../fault/case.ts';
import { type Ending, type Violation, violationsIn } from '../fault/invariants.ts';
import type { Fault, FaultPlan } from '../fault/plan.ts';
import { scheduleOf } from '../fault/schedule.ts';
import type { Observation, Reference } from '../fault/verdict.ts';
import { at } from '../numerics/assert.ts';
import { messageOf } from '../numerics/error.ts';
import { bucketsOf, seenInSimulation, simulatedRunOf } from './chaos-sim.ts';
import { openPlanned, type PlannedRun } from './planned-run.ts';

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
  /** Runs a case. An error that the run throws is part of the result. */
  try(it: Case): Promise<Tried>;
}

/** Simulates a run. Tests replace it by a function with a defect. */
export type Simulate = (run: SimulatedRun) => Promise<SimulatedOutcome>;

/**
 * Simulates cases and checks the invariants. A case is the same run as `pod chaos run --ground sim`
 * with the plan of the case. Compiled programs and runs without faults are kept for later cases,
 * because they do not depend on the faults.
 */
export class Simulator implements Runner {
  readonly isRepeatable = true;
  readonly #simulate: Simulate;
  readonly #buckets = new Map<string, number>();
  readonly #references = new Map<string, Reference>();

  constructor(simulate: Simulate = simulateRun) {
    this.#simulate = simulate;
  }

  /** Simulates a case. An error that the simulation throws is part of the result. */
  async try(it: Case): Promise<Tried> {
    const plan = planOf(it);
    const planned = await openPlanned(
      { plan, placeOf: () => 'a drawn plan', settingName: (key) => `run.${key} of a drawn plan` },
      'sim',
    );
    const buckets = this.#bucketsOf(it, planned);
    const reference = await this.#referenceOf(plan, planned, buckets);
    const ending = await this.#end(plan, planned, buckets);
    const injections = ending.kind === 'ended' ? ending.seen.injections : [];
    const indices = new Set(injections.map(({ index }) => index));
    return {
      plan,
      violations: violationsIn(plan, ending, reference),
      injected: plan.faults.filter((_, index) => indices.has(index)),
      ending,
    };
  }

  #bucketsOf({ run: { model, topology } }: Case, planned: PlannedRun): number {
    const key = `${model} ${topology.columns}x${topology.rows}`;
    const known = this.#buckets.get(key) ?? bucketsOf(planned);
    this.#buckets.set(key, known);
    return known;
  }

  async #referenceOf(plan: FaultPlan, planned: PlannedRun, buckets: number): Promise<Reference> {
    const key = JSON.stringify(plan.run);
    const known = this.#references.get(key);
    if (known !== undefined) return known;
    const outcome = await this.#simulate(simulatedRunOf(planned, [], buckets));
    const { commits, evaluation = [] } = seenInSimulation(outcome, planned.facts.topology);
    const reference = { commits, evaluation };
    this.#references.set(key, reference);
    return reference;
  }

  async #end(plan: FaultPlan, planned: PlannedRun, buckets: number): Promise<Ending> {
    try {
      const run = simulatedRunOf(planned, planned.plan.faults, buckets);
      const seen = seenInSimulation(await this.#simulate(run), planned.facts.topology);
      return { kind: 'ended', seen: withPlannedIndices(seen, plan, planned) };
    } catch (error) {
      // The simulation returns the errors of a run. Whatever it throws is a broken assertion or
      // another mistake in the program. The caller reports it as a broken invariant.
      return { kind: 'threw', message: messageOf(error) };
    }
  }
}

/**
 * Returns a copy of `seen` in which an injection has the index of its fault in `plan`. In `seen` it
 * has the index in the schedule, in which the loss of a row or column is several kills.
 */
export function withPlannedIndices(
  seen: Observation,
  plan: FaultPlan,
  { facts: { topology, steps } }: PlannedRun,
): Observation {
  const schedule = scheduleOf(plan, topology, steps);
  const injections = seen.injections.flatMap(({ index, ms }) => {
    const { planned } = at(schedule, index);
    return planned === null ? [] : [{ index: planned, ms }];
  });
  return { ...seen, injections };
}
