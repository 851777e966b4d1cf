import type { Topology } from '../fabric/torus.ts';
import type { Expectations, FaultPlan, Ground } from '../fault/plan.ts';
import {
  type CommitSeen,
  type FaultOutcome,
  goodputOf,
  judge,
  type Observation,
  outcomesOf,
  type Verdict,
} from '../fault/verdict.ts';

/** The plan of a run, the kind of pod that trained the run, and the size of the pod. */
export interface TestedPlan {
  readonly ground: Ground;
  readonly plan: FaultPlan;
  readonly topology: Topology;
}

/** The result of a run with faults. Times are in ms, on the clock of the run. */
export class PodRun {
  readonly #plan: FaultPlan;
  readonly #topology: Topology;
  readonly #seen: Observation;
  readonly #faultFree: Observation | undefined;
  readonly ground: Ground;
  /**
   * One entry for each fault: when it was injected, when it was noticed, when the run had
   * recovered, and which Cloud TPU was blamed. A lost row or column has one entry for each of its
   * Cloud TPUs instead, with the fault `kill`.
   */
  readonly faults: readonly FaultOutcome[];
  /** One entry for each expectation of the plan, with what was found. */
  readonly verdicts: readonly Verdict[];

  /** `faultFree` is the same run without faults; undefined if that run was not trained. */
  constructor(
    { ground, plan, topology }: TestedPlan,
    seen: Observation,
    faultFree: Observation | undefined,
  ) {
    this.#plan = plan;
    this.#topology = topology;
    this.#seen = seen;
    this.#faultFree = faultFree;
    this.ground = ground;
    this.faults = outcomesOf(plan, topology, seen);
    this.verdicts = this.judge(plan.expect);
  }

  /** `done` if the run was completed, otherwise `failed`. */
  get outcome(): Observation['outcome'] {
    return this.#seen.outcome;
  }

  /** Message of the error that ended the run; empty if the run was completed. */
  get message(): string {
    return this.#seen.message;
  }

  /** The committed steps, in the order of their commits. */
  get steps(): readonly CommitSeen[] {
    return this.#seen.commits;
  }

  /** Digest of the weights after the last committed step; undefined if no step was committed. */
  get digest(): string | undefined {
    return this.steps.at(-1)?.digest;
  }

  /** Losses, suspicions and stages of recoveries, as the pod told them. */
  get notes(): Observation['notes'] {
    return this.#seen.notes;
  }

  /** Cloud TPUs that the run named because each was the slowest for several steps in a row. */
  get stragglers(): Observation['stragglers'] {
    return this.#seen.stragglers;
  }

  /** Time when the pod was ready for the first step. */
  get beginMs(): number {
    return this.#seen.beginMs;
  }

  /** Time when the evaluation began; if the run ended before, the time of that end. */
  get endMs(): number {
    return this.#seen.endMs;
  }

  /** Share of the time of the training, from 0 to 1, that was spent on committed steps. */
  get goodput(): number {
    return goodputOf(this.#seen);
  }

  /** The committed steps of the same run without faults; undefined if that run was not trained. */
  get faultFreeSteps(): readonly CommitSeen[] | undefined {
    return this.#faultFree?.commits;
  }

  /**
   * Judges the run by `expect` instead of by the expectations of its plan. The first entry says
   * whether all faults were injected. The second entry says whether the run ended as expected: with
   * `done`, if `expect` does not say how. Then follows one entry for each other expectation.
   */
  judge(expect: Expectations): readonly Verdict[] {
    return judge({ ...this.#plan, expect }, this.#topology, this.#seen, this.#faultFree);
  }
}
