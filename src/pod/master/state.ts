import { assert } from '../../numerics/assert.ts';
import type { ErrorCode } from '../../numerics/error.ts';
import type { StepOrder, StepReport } from '../messages.ts';
import type { MasterOptions } from './options.ts';

/**
 * State of the master of a slice. The function `master` maps (state, event, now) to (state,
 * actions) and is pure: it never waits and never reads a clock. Threads, sockets and the simulator
 * drive the same function. The phases, in order:
 *
 *   joining ─▶ rolling-back ─▶ loading ─▶ restoring ─▶ ready ◀─▶ stepping
 *
 * The phases `rolling-back` and `restoring` are skipped when they have nothing to do. A step ends
 * with a commit. If a Cloud TPU is lost, in any phase, a new membership (`generation` + 1) begins
 * with the phase `joining`:
 *
 * 1. `joining`: every other Cloud TPU leaves its step and answers `aborted`. A replacement joins.
 * 2. `rolling-back`: if no Cloud TPU has the parameters of the last committed step any more, all
 *    Cloud TPUs get the parameters of a checkpoint.
 * 3. `loading`: all Cloud TPUs load their programs for the new generation.
 * 4. `restoring`: a Cloud TPU without the parameters copies them from another Cloud TPU.
 * 5. `stepping`: after a rollback, the committed steps since the checkpoint run again. Then the
 *    interrupted step runs again.
 *
 * A run ends in the phase `done` (the experiment has closed the pod) or `failed`. See
 * docs/RECOVERY.md.
 */
export interface MasterState {
  readonly options: MasterOptions;
  /** Number of the current membership. */
  readonly generation: number;
  readonly phase: MasterPhase;
  readonly members: readonly Member[];
  /**
   * For each program, by its index: the number of steps applied to the program's parameters. Less
   * than `committed` while committed steps run again after a rollback.
   */
  readonly steps: readonly number[];
  /** For each program, by its index: the number of committed steps. */
  readonly committed: readonly number[];
  /** The step that the experiment requested and that is not committed yet; null between steps. */
  readonly pending: StepOrder | null;
  /**
   * True if the run has parameters that must not get lost. The value is false at the start, except
   * if workers may have parameters from an earlier master. It becomes true when all Cloud TPUs have
   * loaded their programs for the first time.
   */
  readonly mustKeepParameters: boolean;
  /**
   * Time, in ms, of the first loss or fault in the recovery that is under way; null if no recovery
   * is under way.
   */
  readonly recoveringSinceMs: number | null;
  /** Generation of the last membership that began with a rollback; 0 before the first rollback. */
  readonly rolledBackGeneration: number;
  /**
   * Time, in ms, at which a worker last joined; null before the first worker joins. If a worker
   * joins for a second Cloud TPU that it hosts too, the time does not change.
   */
  readonly lastJoinedMs: number | null;
  readonly agreement: Agreement;
  readonly detector: FailureDetector;
}

/** What the Cloud TPUs have agreed on: the digests of their weights. */
export interface Agreement {
  /**
   * For each program, by its index: the digest of the program's weights after `committed` steps;
   * null if the digest is unknown.
   */
  readonly digests: readonly (string | null)[];
  /**
   * The step that runs again because digests differed without a majority; null if there is no such
   * step.
   */
  readonly stepWithoutMajority: StepOrder | null;
}

/** What the failure detector knows of the speed of the machine. */
export interface FailureDetector {
  /** Time, in ms, of the last sample of progress counters and heartbeats. */
  readonly sampledMs: number;
  /**
   * Longest recent silence, in ms. A silence is a time in a step during which a Cloud TPU showed no
   * progress, and after which the Cloud TPU went on. Each commit makes the value smaller.
   */
  readonly longestSilenceMs: number;
  /**
   * True once all Cloud TPUs have finished a step with equal digests under this master. Until then
   * the failure detector uses longer limits, because the speed of the machine is unknown.
   */
  readonly hasTimedStep: boolean;
}

/** Phase of a membership, or the end of the run. Times are in ms. */
export type MasterPhase =
  | { readonly kind: 'joining'; readonly sinceMs: number }
  | { readonly kind: 'rolling-back'; readonly sinceMs: number }
  | { readonly kind: 'loading'; readonly sinceMs: number }
  | { readonly kind: 'restoring'; readonly sinceMs: number }
  | { readonly kind: 'ready' }
  | { readonly kind: 'stepping'; readonly order: StepOrder }
  | { readonly kind: 'done' }
  | { readonly kind: 'failed'; readonly code: ErrorCode; readonly message: string };

/** A Cloud TPU in the membership, and what the master knows of its worker. */
export interface Member {
  /**
   * State of the Cloud TPU's worker:
   *
   * - `absent`: no worker has joined.
   * - `leaving`: the master has sent `abort` to the worker, and the worker has not answered yet.
   * - `present`: the worker has joined and runs no step.
   * - `busy`: the worker loads programs, runs a step or receives parameters.
   * - `ready`: the worker has finished what it did while `busy`.
   */
  readonly status: 'absent' | 'leaving' | 'present' | 'busy' | 'ready';
  /** True if the Cloud TPU has the current parameters: those after `MasterState.steps` steps. */
  readonly hasParameters: boolean;
  readonly report: StepReport | null;
  /**
   * Last sample of the counter that the failure detector watches. While the Cloud TPU must finish
   * or leave a step, this is its progress counter. At other times it is its counter of heartbeats.
   */
  readonly counter: number;
  /** Time, in ms, for which `counter` has not changed. */
  readonly silentMs: number;
  readonly absentSinceMs: number;
  /**
   * True from the start of the master until a worker has joined for this Cloud TPU, or until the
   * worker that was to join is lost.
   */
  readonly awaitsFirstWorker: boolean;
  /**
   * Number of the other Cloud TPU whose worker hosts this Cloud TPU too, or was asked to do so.
   * Null if this Cloud TPU has a worker of its own, or waits for one.
   */
  readonly host: number | null;
  /**
   * Number of suspicions since the Cloud TPU was last replaced. A suspicion is a wrong digest of
   * the Cloud TPU, or an accusation by another worker.
   */
  readonly suspicions: number;
  readonly lossesThisStep: number;
  /** Times, in ms, of the losses of this Cloud TPU in the last minute. */
  readonly lossesMs: readonly number[];
}

/** State of a run at the start of a master, as earlier masters of the run left it. */
export interface MasterStart {
  /** Generation of the last membership; 0 for none. */
  readonly generation: number;
  /** For each program, by its index: the number of committed steps. */
  readonly steps: readonly number[];
  /**
   * For each program, by its index: the digest of the program's weights after `steps` steps; null
   * if the digest is unknown.
   */
  readonly digests: readonly (string | null)[];
  /**
   * True if the run goes on after `steps` steps of an earlier master, so that it needs the
   * parameters after these steps. Workers of the earlier master may still have them. If no worker
   * has them, the master returns to a checkpoint. False if the run begins with initial parameters.
   */
  readonly mustKeepParameters: boolean;
}

/**
 * Returns the first state of a master. The master begins at the time `now` (ms) to wait for its
 * workers. Without `start`, the run begins at step 0 of every program.
 */
export function initialMaster(
  options: MasterOptions,
  now: number,
  start: MasterStart = atStepZero(options),
): MasterState {
  const { steps, digests } = start;
  const programs = options.copiesParameters.length;
  assert(options.names.length > 0, 'a slice has at least one Cloud TPU');
  assert(steps.length === programs, `steps of ${steps.length} programs, there are ${programs}`);
  assert(digests.length === programs, `digests of ${digests.length} programs, not ${programs}`);
  return {
    options,
    generation: start.generation + 1,
    phase: { kind: 'joining', sinceMs: now },
    members: options.names.map(() => ({ ...absentMember(now), awaitsFirstWorker: true })),
    steps,
    committed: steps,
    pending: null,
    mustKeepParameters: start.mustKeepParameters,
    recoveringSinceMs: null,
    rolledBackGeneration: 0,
    lastJoinedMs: null,
    agreement: { digests, stepWithoutMajority: null },
    detector: { sampledMs: now, longestSilenceMs: 0, hasTimedStep: false },
  };
}

function atStepZero({ copiesParameters }: MasterOptions): MasterStart {
  const none = { generation: 0, mustKeepParameters: false };
  return {
    ...none,
    steps: copiesParameters.map(() => 0),
    digests: copiesParameters.map(() => null),
  };
}

/** Returns the member for a Cloud TPU that has had no worker since `now` (ms). */
export function absentMember(now: number): Member {
  return {
    status: 'absent',
    hasParameters: false,
    report: null,
    counter: 0,
    silentMs: 0,
    absentSinceMs: now,
    awaitsFirstWorker: false,
    host: null,
    suspicions: 0,
    lossesThisStep: 0,
    lossesMs: [],
  };
}

/** Returns the state with a change of one member. */
export function withMember(state: MasterState, tpu: number, change: Partial<Member>): MasterState {
  const members = state.members.map((member, i) => (i === tpu ? { ...member, ...change } : member));
  return { ...state, members };
}

/** Returns the state in a new phase, with the same change applied to every member. */
export function toPhase(
  state: MasterState,
  phase: MasterPhase,
  change: Partial<Member>,
): MasterState {
  const members = state.members.map((member) => ({ ...member, ...change, silentMs: 0 }));
  return { ...state, phase, members };
}
