import { assert, at, unreachable } from '../numerics/assert.ts';
import { type ErrorCode, errorCodes } from '../numerics/error.ts';
import type { FromWorker, StepOrder, StepReport, ToWorker } from './messages.ts';
import { holds } from './worker.ts';

/**
 * State of the master of a slice. The function `master` maps (state, event, now) to (state,
 * actions) and is pure: it never waits and never reads a clock. Threads, sockets and the simulator
 * drive the same function. The phases:
 *
 *   joining ─▶ (rolling back) ─▶ loading ─▶ (restoring) ─▶ ready ◀─▶ stepping ─▶ done
 *      ▲                                                                │
 *      └────── a loss in any phase: a new membership, generation + 1 ───┘      failed
 *
 * A step ends with a commit. After the loss of a Cloud TPU:
 *
 * 1. Every other Cloud TPU leaves the step and answers `aborted`, and a replacement joins.
 * 2. All Cloud TPUs load their programs for the new generation.
 * 3. A Cloud TPU without parameters copies those of the last committed step from another Cloud TPU.
 *    If no Cloud TPU has them, they come from a checkpoint, and the steps since the checkpoint run
 *    again.
 * 4. The interrupted step runs again.
 *
 * A loss during this sequence starts the sequence again with the next generation. See
 * docs/RECOVERY.md.
 */
export interface MasterState {
  readonly options: MasterOptions;
  /** Number of the current membership. The master refuses messages of older generations. */
  readonly generation: number;
  readonly phase: MasterPhase;
  readonly members: readonly Member[];
  /**
   * By program, the number of steps applied to the program's parameters. Less than `committed`
   * while committed steps run again after a rollback.
   */
  readonly steps: readonly number[];
  /** By program, the number of committed steps. */
  readonly committed: readonly number[];
  /** By program, the digest of the program's weights after `committed` steps; null if unknown. */
  readonly digests: readonly (string | null)[];
  /** The step that the experiment requested and that is not committed yet; null between steps. */
  readonly pending: StepOrder | null;
  /**
   * False until all Cloud TPUs have loaded their programs for the first time, and true from then
   * on. True from the start if workers may have parameters from an earlier master. While true, the
   * parameters must not get lost: if no Cloud TPU has the parameters any more, the master begins a
   * rollback.
   */
  readonly isEstablished: boolean;
  /**
   * Time, in ms, of the first loss or fault of the current recovery; null if there is no recovery.
   */
  readonly recoveringSinceMs: number | null;
  /** Generation of the last membership that began with a rollback; 0 before the first rollback. */
  readonly rolledBackGeneration: number;
  /**
   * The step that runs again because digests differed without a majority; null if there is no such
   * step.
   */
  readonly stepWithoutMajority: StepOrder | null;
  /** Time, in ms, of the last sample of progress counters and heartbeats. */
  readonly sampledMs: number;
  /**
   * Longest recent silence, in ms: a time during a step in which a Cloud TPU showed no progress,
   * and after which the Cloud TPU went on. The failure detector takes this time as the duration of
   * the longest task on this machine. Each commit makes the value smaller.
   */
  readonly longestSilenceMs: number;
  /**
   * True after the first step that all Cloud TPUs have finished with equal digests under this
   * master. Before that step has ended, the failure detector uses longer limits, because the speed
   * of the machine is unknown.
   */
  readonly hasTimedStep: boolean;
  /**
   * Time, in ms, at which a worker last joined; null before the first worker joins. A worker that
   * joins to host a second Cloud TPU does not count.
   */
  readonly joinedMs: number | null;
}

/** Settings of a master, fixed at its start. */
export interface MasterOptions {
  /** Name of each Cloud TPU in messages, by number: `Cloud TPU 3 (x 1, y 1)`. */
  readonly names: readonly string[];
  /**
   * By program, true if the program copies its parameters from another program, and so has no state
   * of its own.
   */
  readonly copiesParameters: readonly boolean[];
  /**
   * Longest time, in ms, for all workers to join at the start. Leaving a step, rolling back,
   * loading and restoring have the same limit, each by itself.
   */
  readonly startMsLimit: number;
  /**
   * Longest pause, in ms, after the last worker that joined at the start of a run. After that pause
   * the master stops waiting, and the workers that have joined also host the missing Cloud TPUs.
   * Ignored with the policy `none`.
   */
  readonly quietMsLimit: number;
  /**
   * Longest time, in ms, for which the progress counter of a Cloud TPU may stay the same during a
   * step. After that time the Cloud TPU counts as lost. The limit is eight times as long until a
   * first step has ended. Between later steps the failure detector watches heartbeats, also with a
   * limit eight times as long.
   */
  readonly silenceMsLimit: number;
  /**
   * Factor on `longestSilenceMs`, the longest recent pause after which a Cloud TPU went on. If the
   * product is larger than `silenceMsLimit`, the product is the limit instead.
   */
  readonly silenceFactor: number;
  /**
   * Longest time, in ms, by which one sample of the counters can lengthen a silence. If more time
   * lies between two samples, the master itself was held up, not the Cloud TPUs.
   */
  readonly sampleMsLimit: number;
  readonly recovery: RecoveryOptions;
}

/**
 * Policies after the loss of a Cloud TPU. `none`: the run ends. `replace`: a replacement copies the
 * parameters from another Cloud TPU, and the interrupted step runs again. `slice-restart`: the
 * whole slice goes back to the last checkpoint, as on the hardware.
 */
export const recoveryPolicies = ['none', 'replace', 'slice-restart'] as const;
/** One of {@link recoveryPolicies}. */
export type RecoveryPolicy = (typeof recoveryPolicies)[number];

/** Policy and limits of the recovery from losses. */
export interface RecoveryOptions {
  readonly policy: RecoveryPolicy;
  /**
   * Longest time, in ms, for a replacement to join; more than 0. After that time the master asks
   * the worker of another Cloud TPU to host the lost Cloud TPU too. The asked worker has
   * `startMsLimit` to join for the lost Cloud TPU.
   */
  readonly graceMsLimit: number;
  /**
   * Maximum number of losses of one Cloud TPU between two commits, usually 5. The run fails at the
   * next loss.
   */
  readonly lossesPerStepMax: number;
  /** Maximum number of losses of one Cloud TPU within a minute. The run fails at the next loss. */
  readonly lossesPerMinuteMax: number;
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

interface Member {
  /**
   * State of the Cloud TPU's worker. `absent`: no worker has joined. `leaving`: the worker must
   * answer `abort`. `present`: the worker has joined, or has left its step. `busy`: the worker must
   * load programs, run a step, or take parameters. `ready`: the worker has finished that work.
   */
  readonly status: 'absent' | 'leaving' | 'present' | 'busy' | 'ready';
  /** True if the Cloud TPU has the parameters after `MasterState.steps`. */
  readonly holdsState: boolean;
  readonly report: StepReport | null;
  /**
   * Last sample of the counter that the failure detector watches: the progress counter while the
   * Cloud TPU has a step to run or to leave, otherwise the count of its heartbeats.
   */
  readonly counter: number;
  /** Time, in ms, for which `counter` has not changed. */
  readonly silentMs: number;
  readonly absentSinceMs: number;
  /**
   * True when the master starts. False once a worker has joined for this Cloud TPU, or was lost
   * before it joined.
   */
  readonly isNew: boolean;
  /**
   * Number of another Cloud TPU whose worker hosts this Cloud TPU too, or was asked to do so; null
   * if this Cloud TPU has, or waits for, a worker of its own. If the other Cloud TPU is lost, this
   * Cloud TPU is lost too.
   */
  readonly host: number | null;
  /**
   * Number of wrong digests of this Cloud TPU, and of accusations by other workers, since the Cloud
   * TPU was last replaced.
   */
  readonly suspicions: number;
  readonly lossesThisStep: number;
  /** Times, in ms, of the losses of this Cloud TPU in the last minute. */
  readonly lossesMs: readonly number[];
}

/** An event for the master's state machine. */
export type MasterEvent =
  | { readonly kind: 'message'; readonly message: FromWorker }
  /** The experiment requests a step. Allowed only in the phase `ready`. */
  | { readonly kind: 'begin-step'; readonly order: StepOrder }
  /**
   * The worker of a Cloud TPU is gone: its thread ended, its socket closed, or its process ended
   * before it could join. Not sent for a worker that was replaced already. `code` is the code of
   * the error that the worker reported, if any.
   */
  | {
      readonly kind: 'exited';
      readonly tpu: number;
      readonly reason: string;
      readonly code?: string | null;
    }
  /**
   * A service that all Cloud TPUs use has failed. `who` names it, for example `the data loader`.
   */
  | {
      readonly kind: 'service-failed';
      readonly who: string;
      readonly code: string | null;
      readonly message: string;
    }
  /** Answer to the action `restore`: the Cloud TPU now has the parameters. */
  | { readonly kind: 'restored'; readonly tpu: number; readonly generation: number }
  /**
   * Answer to the action `rollback`: saved parameters were found and set on all Cloud TPUs.
   * `steps`: by program, the number of steps applied to the saved parameters.
   */
  | { readonly kind: 'rolled-back'; readonly generation: number; readonly steps: readonly number[] }
  /**
   * The experiment has set a program's parameters, in the phase `ready`. `digest` is the digest of
   * the new weights, or null if it is unknown.
   */
  | { readonly kind: 'written'; readonly program: number; readonly digest: string | null }
  /**
   * Counters of all Cloud TPUs by number, sampled at regular intervals. `progress` grows with the
   * work of a Cloud TPU. `heartbeats` grows with every message of the Cloud TPU's process, so the
   * master also notices the loss of an idle Cloud TPU. A pod of threads has no heartbeats.
   */
  | {
      readonly kind: 'sample';
      readonly progress: readonly number[];
      readonly heartbeats?: readonly number[];
    }
  | { readonly kind: 'stop' };

/** An action for the driver of a master. The driver performs the actions of a list in order. */
export type MasterAction =
  | { readonly kind: 'send'; readonly tpu: number; readonly message: ToWorker }
  /** Steps may begin: all Cloud TPUs have loaded, at the start or after a recovery. */
  | { readonly kind: 'ready' }
  /**
   * The step is committed: all replicas have the same weights. `reports` has one report for each
   * Cloud TPU, in order of Cloud TPU numbers.
   */
  | {
      readonly kind: 'commit';
      readonly order: StepOrder;
      readonly digest: string;
      readonly reports: readonly StepReport[];
    }
  /**
   * A step that was committed before has run again after a rollback. The infeed samples of the step
   * can be released.
   */
  | { readonly kind: 'repeated'; readonly order: StepOrder }
  /** The master has ignored a message that does not fit its state. The driver logs the message. */
  | { readonly kind: 'refused'; readonly message: FromWorker; readonly reason: string }
  /** End every wait of every worker, because the step or the run has been given up. */
  | { readonly kind: 'abort' }
  /** End the remains of a Cloud TPU's worker, and only then let a replacement start and join. */
  | { readonly kind: 'replace'; readonly tpu: number }
  /**
   * Ask the worker of Cloud TPU `host` to host Cloud TPU `tpu` too and to join for it, because no
   * worker has joined for Cloud TPU `tpu` in time.
   */
  | { readonly kind: 'adopt'; readonly tpu: number; readonly host: number }
  /** Make new links and feeds for this membership. No Cloud TPU runs a step at this moment. */
  | { readonly kind: 'reset'; readonly generation: number; readonly steps: readonly number[] }
  /**
   * Find saved parameters and set them on all Cloud TPUs, because no Cloud TPU has the current
   * parameters. The driver answers with the event `rolled-back`.
   */
  | { readonly kind: 'rollback'; readonly generation: number }
  /**
   * Copy the parameters to Cloud TPU `tpu` from Cloud TPU `from`. If `from` is null, copy nothing,
   * because the rollback has set the parameters already. The driver answers with the event
   * `restored`.
   */
  | {
      readonly kind: 'restore';
      readonly generation: number;
      readonly tpu: number;
      readonly from: number | null;
    }
  | { readonly kind: 'note'; readonly note: Note }
  | { readonly kind: 'failed'; readonly code: ErrorCode; readonly message: string };

/** An event for the user: a fault, or a stage of the recovery from a fault. */
export interface Note {
  readonly event: /** A Cloud TPU is lost. */
    | 'lost'
    /** A Cloud TPU has wrong weights or sent a corrupt frame, or no digest has a majority. */
    | 'suspected'
    /** The Cloud TPU was at fault a second time and is being replaced. */
    | 'quarantined'
    /** No worker joined for the Cloud TPU in time. Another worker hosts it too. */
    | 'adopted'
    /** A replacement has joined for the Cloud TPU. */
    | 'replaced'
    /** The Cloud TPU has received the parameters. */
    | 'restored'
    /** All copies of the parameters were lost. Steps since a checkpoint run again. */
    | 'rolled-back'
    /** The recovery is complete. */
    | 'resumed';
  readonly generation: number;
  /** Program of the step that runs or was interrupted; null between steps. */
  readonly program: number | null;
  readonly step: number | null;
  /** Number of the Cloud TPU that the event concerns; null for the whole slice. */
  readonly tpu: number | null;
  readonly cause: string;
  /** Time, in ms, since the first loss or fault of this recovery. */
  readonly elapsedMs: number;
}

/** Result of an event: the next state, and the actions for the driver. */
export interface Transition {
  readonly state: MasterState;
  readonly actions: readonly MasterAction[];
}

/** State of a run at the start of a master, as earlier masters of the run left it. */
export interface MasterStart {
  /** Generation of the last membership; 0 for none. */
  readonly generation: number;
  /** By program, the number of committed steps. */
  readonly steps: readonly number[];
  /** By program, the digest of the program's weights after `steps` steps; null if unknown. */
  readonly digests: readonly (string | null)[];
  /**
   * True if workers of an earlier master may have the parameters after `steps`. If no worker has
   * these parameters, the master begins a rollback. False if the run begins with the parameters
   * that Cloud TPUs have after loading.
   */
  readonly isEstablished: boolean;
}

/**
 * Returns the state of a master that waits for its workers from `now` (ms) on. The default of
 * `start` is step 0 of every program.
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
    members: options.names.map(() => ({ ...absentMember(now), isNew: true })),
    steps,
    committed: steps,
    digests,
    pending: null,
    isEstablished: start.isEstablished,
    recoveringSinceMs: null,
    rolledBackGeneration: 0,
    stepWithoutMajority: null,
    sampledMs: now,
    longestSilenceMs: 0,
    hasTimedStep: false,
    joinedMs: null,
  };
}

function atStepZero({ copiesParameters }: MasterOptions): MasterStart {
  const none = { generation: 0, isEstablished: false };
  return {
    ...none,
    steps: copiesParameters.map(() => 0),
    digests: copiesParameters.map(() => null),
  };
}

function absentMember(now: number): Member {
  return {
    status: 'absent',
    holdsState: false,
    report: null,
    counter: 0,
    silentMs: 0,
    absentSinceMs: now,
    isNew: false,
    host: null,
    suspicions: 0,
    lossesThisStep: 0,
    lossesMs: [],
  };
}

/** Handles `event` at time `now` (ms). Ignores every event once the run has ended. */
export function master(state: MasterState, event: MasterEvent, now: number): Transition {
  if (isOver(state)) return unchanged(state);
  switch (event.kind) {
    case 'message':
      return onMessage(state, event.message, now);
    case 'begin-step':
      return onBeginStep(state, event.order);
    case 'exited':
      return onExited(state, event, now);
    case 'service-failed':
      return fail(state, codeOf(event.code), `${event.who} failed: ${event.message}`);
    case 'restored':
      return onRestored(state, event.tpu, event.generation, now);
    case 'rolled-back':
      return onRolledBack(state, event.generation, event.steps, now);
    case 'written': {
      const digests = state.digests.map((it, i) => (i === event.program ? event.digest : it));
      return unchanged({ ...state, digests });
    }
    case 'sample':
      return onSample(state, event, now);
    case 'stop':
      return {
        state: { ...state, phase: { kind: 'done' } },
        actions: broadcast(state, { kind: 'stop', generation: state.generation }),
      };
    default:
      return unreachable(event);
  }
}

/** True if the run has ended, in success or failure. */
export function isOver(state: MasterState): boolean {
  return state.phase.kind === 'done' || state.phase.kind === 'failed';
}

/**
 * Returns true if a new worker may join for Cloud TPU `tpu`: no worker has joined for this Cloud
 * TPU, and the worker of another Cloud TPU was not asked to host it. A new worker that finds no
 * vacant Cloud TPU waits as a spare for the next loss.
 */
export function isVacant({ members }: MasterState, tpu: number): boolean {
  const { status, host } = at(members, tpu);
  return status === 'absent' && host === null;
}

// --------------------------------------------------------------------------------------- messages

function onMessage(state: MasterState, message: FromWorker, now: number): Transition {
  if (message.tpu >= state.members.length) return refuse(state, message, 'no such Cloud TPU');
  if (message.generation > state.generation) return supersede(state, message);
  if (message.kind === 'joined') return onJoined(state, message, now);
  if (message.kind === 'failed') return onFailed(state, message, now);
  if (message.generation !== state.generation) {
    return refuse(state, message, `generation ${message.generation}, now ${state.generation}`);
  }
  switch (message.kind) {
    case 'aborted':
      return onAborted(state, message, now);
    case 'ready':
      return onReady(state, message, now);
    case 'step-done':
      return onStepDone(state, message, now);
    case 'accused':
      return onAccused(state, message, now);
    default:
      return unreachable(message);
  }
}

/**
 * Fails this master with `superseded`. A message of a newer generation proves that a newer master
 * leads the run, since only that master can have begun the newer membership.
 */
function supersede(state: MasterState, { tpu, generation }: FromWorker): Transition {
  const found = `${nameOf(state, tpu)} is in generation ${generation}, this master in ${state.generation}`;
  return fail(state, 'superseded', `${found}: a newer master leads the run`);
}

/**
 * Takes a worker that joins into the membership. A worker that has parameters took part in an
 * earlier membership and may still run a step, so the master sends `abort` and waits for `aborted`.
 */
function onJoined(
  state: MasterState,
  message: FromWorker & { kind: 'joined' },
  now: number,
): Transition {
  if (state.phase.kind !== 'joining') return refuse(state, message, 'the membership is closed');
  const { tpu, steps } = message;
  if (at(state.members, tpu).status !== 'absent') {
    return refuse(state, message, 'a worker has joined for this Cloud TPU already');
  }
  const { recovery, copiesParameters } = state.options;
  // A worker that has finished the uncommitted step still has the parameters from before that step,
  // as long as no further step has begun. A further step can have begun only if committed steps are
  // run again after a rollback.
  const keepsBefore = state.steps.every((count, i) => count === state.committed[i]);
  const holdsState =
    keepsState(recovery) && holds(steps, state.steps, copiesParameters, keepsBefore);
  const status = steps === null ? 'present' : 'leaving';
  const { isNew, host } = at(state.members, tpu);
  const here = withMember(state, tpu, { status, holdsState, silentMs: 0, isNew: false });
  const joined: MasterState = host === null ? { ...here, joinedMs: now } : here;
  const actions: MasterAction[] =
    steps === null ? [] : [sendTo(tpu, { kind: 'abort', generation: state.generation })];
  if (state.recoveringSinceMs !== null && !isNew) {
    actions.unshift(noteOf(joined, 'replaced', tpu, `${nameOf(state, tpu)} has joined`, now));
  }
  return then({ state: joined, actions }, (it) => loadIfAllPresent(it, now));
}

/**
 * Returns true if a Cloud TPU can keep its parameters when a step is interrupted. False with the
 * policy `none`: programs update parameters in place, so an interrupted step may have changed any
 * parameter. False with `slice-restart`: all parameters come from a checkpoint, as on the hardware.
 */
function keepsState({ policy }: RecoveryOptions): boolean {
  return policy === 'replace';
}

/** Counts a worker that reports `failed` as lost, even if the message is of an older generation. */
function onFailed(
  state: MasterState,
  { tpu, code, message }: FromWorker & { kind: 'failed' },
  now: number,
): Transition {
  const loss = { tpu, code: codeOf(code), message: describeFailure(state, tpu, message) };
  return lose(state, [loss], now);
}

function onAborted(
  state: MasterState,
  message: FromWorker & { kind: 'aborted' },
  now: number,
): Transition {
  if (at(state.members, message.tpu).status !== 'leaving') {
    return refuse(state, message, 'the Cloud TPU has sent this message already');
  }
  return loadIfAllPresent(withMember(state, message.tpu, { status: 'present', silentMs: 0 }), now);
}

function onReady(
  state: MasterState,
  message: FromWorker & { kind: 'ready' },
  now: number,
): Transition {
  if (state.phase.kind !== 'loading') return refuse(state, message, 'nothing is being loaded');
  const { tpu, digests } = message;
  const isWrong = at(state.members, tpu).holdsState && hasOtherWeights(state, digests);
  const next = withMember(state, tpu, {
    status: 'ready',
    ...(isWrong && { holdsState: false }),
  });
  const cause = `${nameOf(state, tpu)} has other weights than those that were agreed on last`;
  const actions = isWrong ? [noteOf(next, 'suspected', tpu, cause, now)] : [];
  if (!next.members.every((member) => member.status === 'ready')) return { state: next, actions };
  return then({ state: next, actions }, (it) =>
    it.isEstablished ? restore(it, now) : establish(it, now),
  );
}

/**
 * Returns true if a Cloud TPU has other weights after loading than those of the last commit.
 * `found`: by program, the digest of the weights after loading. Other Cloud TPUs must not copy such
 * weights.
 */
function hasOtherWeights(state: MasterState, found: readonly string[]): boolean {
  const { digests, steps, committed, options } = state;
  return digests.some((digest, program) => {
    const isLast = at(steps, program) === at(committed, program);
    const isOwn = isLast && !at(options.copiesParameters, program) && digest !== null;
    return isOwn && found[program] !== digest;
  });
}

function onBeginStep(state: MasterState, order: StepOrder): Transition {
  assert(state.phase.kind === 'ready', `a step begins when ready, not ${state.phase.kind}`);
  const next = at(state.steps, order.program);
  assert(order.step === next, `step ${order.step} begins where ${next} is next`);
  return start({ ...state, pending: order }, order);
}

function start(state: MasterState, order: StepOrder): Transition {
  const stepping = toPhase(state, { kind: 'stepping', order }, { status: 'busy', report: null });
  const message: ToWorker = { kind: 'start-step', generation: state.generation, ...order };
  return { state: stepping, actions: broadcast(stepping, message) };
}

function onStepDone(
  state: MasterState,
  message: FromWorker & { kind: 'step-done' },
  now: number,
): Transition {
  const { phase } = state;
  if (phase.kind !== 'stepping') return refuse(state, message, 'no step is running');
  const { program, step } = phase.order;
  if (message.program !== program || message.step !== step) {
    return refuse(state, message, `step ${step} of program ${program} is running`);
  }
  if (at(state.members, message.tpu).status !== 'busy')
    return refuse(state, message, 'the Cloud TPU has sent this message already');
  const { kind: _, generation: __, ...report } = message;
  const next = withMember(state, message.tpu, { status: 'ready', report });
  const reports = next.members.flatMap((member) => member.report ?? []);
  if (reports.length < next.members.length) return unchanged(next);
  const { digest } = at(reports, 0);
  if (reports.some((other) => other.digest !== digest)) {
    return disagree(next, phase.order, reports, now);
  }
  const { steps, committed } = next;
  const moved = { ...next, steps: withCount(steps, program, step + 1), hasTimedStep: true };
  if (step < at(committed, program)) return repeated(moved, phase.order, digest, now);
  return commit(moved, phase.order, digest, reports);
}

function commit(
  state: MasterState,
  order: StepOrder,
  digest: string,
  reports: readonly StepReport[],
): Transition {
  const { program } = order;
  return {
    state: {
      ...state,
      phase: { kind: 'ready' },
      longestSilenceMs: silenceDecay * state.longestSilenceMs,
      members: state.members.map((member) => ({ ...member, lossesThisStep: 0 })),
      committed: withCount(state.committed, program, order.step + 1),
      digests: state.digests.map((before, i) => (i === program ? digest : before)),
      pending: null,
      stepWithoutMajority: null,
    },
    actions: [{ kind: 'commit', order, digest, reports }],
  };
}

/**
 * Handles the end of a committed step that ran again after a rollback. The last repeated step must
 * end with the digest of its commit; otherwise the run fails with `digest-mismatch`.
 */
function repeated(state: MasterState, order: StepOrder, digest: string, now: number): Transition {
  const { program, step } = order;
  const before = at(state.digests, program);
  const isLast = step + 1 === at(state.committed, program);
  if (isLast && before !== null && before !== digest) {
    const message = `${stepName(order)} was repeated from a checkpoint and ended with weights ${digest}, with ${before} before`;
    return fail(state, 'digest-mismatch', message);
  }
  return then({ state, actions: [{ kind: 'repeated', order }] }, (it) => proceed(it, now));
}

// ------------------------------------------------------------------------------------ membership

/**
 * Begins to load programs once every Cloud TPU is present and runs no step. If the run has
 * parameters to keep (`isEstablished`), and no Cloud TPU has them, begins a rollback first.
 */
function loadIfAllPresent(state: MasterState, now: number): Transition {
  if (!state.members.every((member) => member.status === 'present')) return unchanged(state);
  const isLost = state.isEstablished && !state.members.some((member) => member.holdsState);
  if (!isLost) return load(state, now);
  return {
    state: { ...state, phase: { kind: 'rolling-back', sinceMs: now } },
    actions: [{ kind: 'rollback', generation: state.generation }],
  };
}

function onRolledBack(
  state: MasterState,
  generation: number,
  steps: readonly number[],
  now: number,
): Transition {
  if (state.phase.kind !== 'rolling-back' || generation !== state.generation)
    return unchanged(state);
  steps.forEach((step, i) => {
    assert(
      step <= at(state.committed, i),
      `rolled back to step ${step}, ahead of ${state.committed[i]}`,
    );
  });
  const rolledBack: MasterState = { ...state, steps, rolledBackGeneration: generation };
  const cause = `parameters are those after ${steps.join(', ')} steps`;
  const actions = [noteOf(rolledBack, 'rolled-back', null, cause, now)];
  return then({ state: rolledBack, actions }, (it) => load(it, now));
}

function load(state: MasterState, now: number): Transition {
  const { generation, steps } = state;
  const loading = toPhase(state, { kind: 'loading', sinceMs: now }, { status: 'busy' });
  const orders = broadcast(loading, { kind: 'load', generation, steps });
  return { state: loading, actions: [{ kind: 'reset', generation, steps }, ...orders] };
}

/**
 * Takes the parameters that all Cloud TPUs have after the first loading as the state of the run.
 */
function establish(state: MasterState, now: number): Transition {
  const members = state.members.map((member) => ({ ...member, holdsState: true }));
  return proceed({ ...state, members, isEstablished: true }, now);
}

/**
 * Makes every Cloud TPU without the current parameters copy them from another Cloud TPU. The copies
 * are spread evenly over the Cloud TPUs that have the parameters. If no Cloud TPU has the
 * parameters, and this membership began without a rollback, begins a new membership.
 */
function restore(state: MasterState, now: number): Transition {
  const { members, generation } = state;
  const numbers = members.map((_, tpu) => tpu);
  const sources = numbers.filter((tpu) => at(members, tpu).holdsState);
  const takers = numbers.filter((tpu) => !at(members, tpu).holdsState);
  if (takers.length === 0) return proceed(state, now);
  if (sources.length === 0 && state.rolledBackGeneration !== generation)
    return beginMembership(state, now);
  const restoring: MasterState = {
    ...state,
    phase: { kind: 'restoring', sinceMs: now },
    members: members.map((it) => (it.holdsState ? it : { ...it, status: 'busy', silentMs: 0 })),
  };
  const actions = takers.map((tpu, i): MasterAction => {
    return { kind: 'restore', generation, tpu, from: sources[i % sources.length] ?? null };
  });
  return { state: restoring, actions };
}

function onRestored(state: MasterState, tpu: number, generation: number, now: number): Transition {
  const isExpected = state.phase.kind === 'restoring' && generation === state.generation;
  if (!isExpected || at(state.members, tpu).holdsState) return unchanged(state);
  const next = withMember(state, tpu, { holdsState: true, status: 'ready' });
  const cause = `${nameOf(state, tpu)} has the parameters`;
  const actions = [noteOf(next, 'restored', tpu, cause, now)];
  if (!next.members.every((member) => member.holdsState)) return { state: next, actions };
  return then({ state: next, actions }, (it) => proceed(it, now));
}

/**
 * Continues the run when every Cloud TPU has the parameters. If committed steps must run again
 * after a rollback, starts the next of these steps. Otherwise starts the interrupted step, or goes
 * to the phase `ready` if no step was interrupted.
 */
function proceed(state: MasterState, now: number): Transition {
  const { steps, committed, pending, options } = state;
  const program = steps.findIndex((count, i) => count < at(committed, i));
  if (program >= 0) {
    return start(state, { program, step: at(steps, program), takeParameters: false });
  }
  const calm: MasterState = { ...state, recoveringSinceMs: null };
  const what = pending === null ? 'steps may begin' : `${stepName(pending)} runs again`;
  const actions: MasterAction[] =
    state.recoveringSinceMs === null ? [] : [noteOf(state, 'resumed', null, what, now)];
  if (pending === null) {
    return {
      state: { ...calm, phase: { kind: 'ready' } },
      actions: [...actions, { kind: 'ready' }],
    };
  }
  const takeParameters = at(options.copiesParameters, pending.program);
  return then({ state: calm, actions }, (it) => start(it, { ...pending, takeParameters }));
}

// ----------------------------------------------------------------------------------------- losses

interface Loss {
  readonly tpu: number;
  readonly code: ErrorCode;
  readonly message: string;
}

function onExited(
  state: MasterState,
  { tpu, reason, code = null }: MasterEvent & { kind: 'exited' },
  now: number,
): Transition {
  const message = `${describeWork(state, tpu)} exited: ${reason}`;
  return lose(state, [{ tpu, code: code === null ? 'worker-exited' : codeOf(code), message }], now);
}

/**
 * Handles the loss of Cloud TPUs: begins a new membership with replacements. The run fails instead
 * if the policy is `none`, if a replacement would fail in the same way, or if a Cloud TPU was lost
 * too often.
 */
function lose(
  state: MasterState,
  causes: readonly Loss[],
  now: number,
  event: 'lost' | 'quarantined' = 'lost',
): Transition {
  const losses = [...causes, ...lossesOfHosted(state, causes)];
  const { policy } = state.options.recovery;
  if (policy === 'none') return fail(state, at(losses, 0).code, at(losses, 0).message);
  const refused = losses.find(({ code }) => isWrongInput(code));
  if (refused !== undefined) return fail(state, refused.code, refused.message);
  const hopeless = losses.find((it) => isTooOften(state, it, now));
  if (hopeless !== undefined) {
    return fail(state, hopeless.code, `${hopeless.message}; it was lost too often`);
  }
  const lost = losses.map(({ tpu }) => tpu);
  const members = state.members.map((member, tpu): Member => {
    if (!lost.includes(tpu)) return member;
    const { lossesThisStep, lossesMs } = member;
    return {
      ...absentMember(now),
      lossesThisStep: lossesThisStep + 1,
      lossesMs: [...recent(lossesMs, now), now],
    };
  });
  const next: MasterState = {
    ...state,
    members,
    recoveringSinceMs: state.recoveringSinceMs ?? now,
  };
  const notes = losses.map(({ tpu, message }) => noteOf(next, event, tpu, message, now));
  const replacements = lost.map((tpu): MasterAction => ({ kind: 'replace', tpu }));
  return then({ state: next, actions: [...notes, ...replacements] }, (it) =>
    beginMembership(it, now),
  );
}

/**
 * Returns the losses of the Cloud TPUs that the workers of lost Cloud TPUs (`causes`) also host. If
 * a worker is lost, all Cloud TPUs that the worker hosts are lost.
 */
function lossesOfHosted(state: MasterState, causes: readonly Loss[]): readonly Loss[] {
  return state.members.flatMap(({ host }, tpu): Loss[] => {
    const cause = causes.find((it) => it.tpu === host);
    if (cause === undefined || causes.some((it) => it.tpu === tpu)) return [];
    const hosted = `${nameOf(state, tpu)} is lost with ${nameOf(state, cause.tpu)}, whose worker hosts it`;
    return [{ ...cause, tpu, message: `${hosted}: ${cause.message}` }];
  });
}

/** True if the error lies in the user's input, so that a replacement would fail in the same way. */
function isWrongInput(code: ErrorCode): boolean {
  return errorCodes[code] === errorCodes['bad-data'];
}

function isTooOften({ members, options }: MasterState, { tpu }: Loss, now: number): boolean {
  const { lossesPerStepMax, lossesPerMinuteMax } = options.recovery;
  const { lossesThisStep, lossesMs } = at(members, tpu);
  return lossesThisStep >= lossesPerStepMax || recent(lossesMs, now).length >= lossesPerMinuteMax;
}

function recent(lossesMs: readonly number[], now: number): readonly number[] {
  return lossesMs.filter((lossMs) => lossMs > now - 60_000);
}

/** Begins a new membership: tells every worker that has joined to leave its step. */
function beginMembership(state: MasterState, now: number): Transition {
  const generation = state.generation + 1;
  const isKept = keepsState(state.options.recovery);
  const members = state.members.map((member): Member => {
    const status = member.status === 'absent' ? 'absent' : 'leaving';
    const holdsState = member.holdsState && isKept;
    return { ...member, status, holdsState, report: null, silentMs: 0 };
  });
  const next: MasterState = {
    ...state,
    generation,
    phase: { kind: 'joining', sinceMs: now },
    members,
    recoveringSinceMs: state.recoveringSinceMs ?? now,
  };
  const orders = members.flatMap(({ status }, tpu): MasterAction[] =>
    status === 'leaving' ? [sendTo(tpu, { kind: 'abort', generation })] : [],
  );
  return { state: next, actions: [{ kind: 'abort' }, ...orders] };
}

// ---------------------------------------------------------------------------------------- faults

/**
 * Number of wrong digests of a Cloud TPU, and of accusations by other workers, at which the Cloud
 * TPU is replaced.
 */
export const suspicionsMax = 2;

/**
 * Handles a step after which the digests of the Cloud TPUs differ. If more than half of the Cloud
 * TPUs agree, each other Cloud TPU copies the parameters from a Cloud TPU of the majority, because
 * its own parameters may have been wrong before the step. Then the step runs again. Without a
 * majority the step runs again once; if there is still no majority, the run fails with
 * `digest-mismatch`. With the policy `none` the run fails at once.
 */
function disagree(
  state: MasterState,
  order: StepOrder,
  reports: readonly StepReport[],
  now: number,
): Transition {
  const message = describeMismatch(state, order, reports);
  if (state.options.recovery.policy === 'none') return fail(state, 'digest-mismatch', message);
  const wrong = minority(reports);
  if (wrong !== undefined) {
    const members = state.members.map((member, tpu) =>
      wrong.includes(tpu) ? { ...member, holdsState: false } : member,
    );
    return countFaults({ ...state, members }, wrong, 'digest-mismatch', message, now);
  }
  const { stepWithoutMajority } = state;
  if (stepWithoutMajority?.program === order.program && stepWithoutMajority.step === order.step) {
    return fail(state, 'digest-mismatch', `${message}, again`);
  }
  return suspect({ ...state, stepWithoutMajority: order }, [null], message, now);
}

function onAccused(
  state: MasterState,
  message: FromWorker & { kind: 'accused' },
  now: number,
): Transition {
  const { tpu, suspect, code } = message;
  if (suspect >= state.members.length) return refuse(state, message, 'no such Cloud TPU');
  if (at(state.members, suspect).status === 'absent')
    return refuse(state, message, 'the accused Cloud TPU is lost already');
  const what = `${describeWork(state, suspect)} is accused by ${nameOf(state, tpu)}: ${message.message}`;
  const { policy } = state.options.recovery;
  if (policy === 'none') return fail(state, codeOf(code), what);
  return countFaults(state, [suspect], codeOf(code), what, now);
}

/** Counts one fault of each Cloud TPU in `wrong`. A Cloud TPU is replaced at its second fault. */
function countFaults(
  state: MasterState,
  wrong: readonly number[],
  code: ErrorCode,
  message: string,
  now: number,
): Transition {
  const members = state.members.map((member, tpu) =>
    wrong.includes(tpu) ? { ...member, suspicions: member.suspicions + 1 } : member,
  );
  const counted: MasterState = { ...state, members };
  const again = wrong.filter((tpu) => at(members, tpu).suspicions >= suspicionsMax);
  if (again.length === 0) return suspect(counted, wrong, message, now);
  const losses = again.map((tpu) => ({ tpu, code, message }));
  return lose(counted, losses, now, 'quarantined');
}

/**
 * Reports the suspected Cloud TPUs (null: no single Cloud TPU is suspected). Begins a new
 * membership of the same workers, which runs the step again.
 */
function suspect(
  state: MasterState,
  suspects: readonly (number | null)[],
  message: string,
  now: number,
): Transition {
  const notes = suspects.map((tpu) => noteOf(state, 'suspected', tpu, message, now));
  return then({ state, actions: notes }, (it) => beginMembership(it, now));
}

/**
 * Returns the Cloud TPUs whose digest differs from the digest of the majority, which is more than
 * half of all Cloud TPUs. Returns undefined without a majority.
 */
function minority(reports: readonly StepReport[]): readonly number[] | undefined {
  const counts = new Map<string, number>();
  for (const { digest } of reports) counts.set(digest, (counts.get(digest) ?? 0) + 1);
  const right = [...counts].find(([, count]) => count * 2 > reports.length)?.[0];
  if (right === undefined) return undefined;
  return reports.filter(({ digest }) => digest !== right).map(({ tpu }) => tpu);
}

// -------------------------------------------------------------------------------------- deadlines

/** Measures how long each Cloud TPU has been silent, then checks all deadlines of the phase. */
function onSample(
  state: MasterState,
  { progress, heartbeats }: MasterEvent & { kind: 'sample' },
  now: number,
): Transition {
  const elapsedMs = Math.min(now - state.sampledMs, state.options.sampleMsLimit);
  let longestSilenceMs = state.longestSilenceMs;
  const members = state.members.map((member, tpu): Member => {
    const counters = owesProgress(state, member) ? progress : heartbeats;
    const counter = (counters ?? progress)[tpu] ?? 0;
    if (counters === undefined || member.status === 'absent') {
      return { ...member, counter, silentMs: 0 };
    }
    if (counter === member.counter) return { ...member, silentMs: member.silentMs + elapsedMs };
    if (state.phase.kind === 'stepping')
      longestSilenceMs = Math.max(longestSilenceMs, member.silentMs);
    return { ...member, counter, silentMs: 0 };
  });
  const next: MasterState = { ...state, members, longestSilenceMs, sampledMs: now };
  return checkDeadlines(next, now);
}

function checkDeadlines(state: MasterState, now: number): Transition {
  const { phase } = state;
  switch (phase.kind) {
    case 'joining':
      return checkJoining(state, phase.sinceMs, now);
    case 'loading':
      return ifLate(state, phase.sinceMs, now, () =>
        loseLate(state, 'busy', 'did not finish loading its programs', now),
      );
    case 'restoring':
      return ifLate(state, phase.sinceMs, now, () =>
        loseLate(state, 'busy', 'did not get the parameters', now),
      );
    case 'rolling-back':
      return ifLate(state, phase.sinceMs, now, () =>
        fail(state, 'worker-silent', 'parameters were not found in time: no copy is left'),
      );
    case 'stepping':
    case 'ready':
      return checkSilence(state, now);
    case 'done':
    case 'failed':
      return unchanged(state);
    default:
      return unreachable(phase);
  }
}

function ifLate(
  state: MasterState,
  sinceMs: number,
  now: number,
  late: () => Transition,
): Transition {
  return now - sinceMs > state.options.startMsLimit ? late() : checkSilence(state, now);
}

function loseLate(
  state: MasterState,
  status: Member['status'],
  what: string,
  now: number,
): Transition {
  const { members, options } = state;
  const late = members.flatMap((member, tpu) => (member.status === status ? [tpu] : []));
  const who = late.map((tpu) => nameOf(state, tpu)).join(', ');
  const message = `${who} ${what} within ${options.startMsLimit} ms`;
  return lose(
    state,
    late.map((tpu) => ({ tpu, code: 'worker-silent', message })),
    now,
  );
}

/**
 * Checks the deadlines of the phase `joining`: for Cloud TPUs to leave their step, and for workers
 * to join. If a worker does not join in time, another worker hosts its Cloud TPU, or the run fails.
 */
function checkJoining(state: MasterState, sinceMs: number, now: number): Transition {
  const { members, options } = state;
  const isLate = now - sinceMs > options.startMsLimit;
  if (isLate && members.some(({ status }) => status === 'leaving')) {
    return loseLate(state, 'leaving', 'did not leave the step', now);
  }
  const overdue = members.findIndex((member) => isOverdue(state, member, now));
  if (overdue < 0) return checkSilence(state, now);
  const { policy } = options.recovery;
  const canHost = policy !== 'none' && members.some(({ status }) => status !== 'absent');
  if (at(members, overdue).isNew && !state.isEstablished && !canHost) {
    return failToStart(state);
  }
  return adopt(state, overdue, now);
}

/** True if no worker has joined for a Cloud TPU within the time limit. */
function isOverdue(state: MasterState, member: Member, now: number): boolean {
  if (member.status !== 'absent') return false;
  const { startMsLimit, quietMsLimit, recovery } = state.options;
  const absentMs = now - member.absentSinceMs;
  if (member.host !== null) return absentMs > startMsLimit;
  if (!member.isNew) return absentMs > recovery.graceMsLimit;
  // This master continues the run of an earlier master. All workers may have ended with the earlier
  // master, so the workers get more time to join than a single replacement.
  if (state.isEstablished) return absentMs > Math.max(recovery.graceMsLimit, startMsLimit / 4);
  const isQuiet = state.joinedMs !== null && now - state.joinedMs > quietMsLimit;
  return absentMs > startMsLimit || (recovery.policy !== 'none' && isQuiet);
}

/**
 * Fails the run with `worker-silent`, because some workers did not join at the start. No other
 * worker can host their Cloud TPUs: no worker has joined, or the policy is `none`.
 */
function failToStart(state: MasterState): Transition {
  const late = state.members.flatMap(({ status }, tpu) => (status === 'absent' ? [tpu] : []));
  const who = late.map((tpu) => nameOf(state, tpu)).join(', ');
  const message = `${who} did not start within ${state.options.startMsLimit} ms`;
  return fail(state, 'worker-silent', message);
}

/**
 * Asks a worker to host Cloud TPU `tpu` in addition to its own: the joined worker that hosts the
 * fewest additional Cloud TPUs. If a worker was asked before and has not joined for `tpu` within
 * `startMsLimit`, counts that worker as lost instead.
 */
function adopt(state: MasterState, tpu: number, now: number): Transition {
  const { members, options } = state;
  const { host: before } = at(members, tpu);
  if (before !== null) {
    const what = `did not host ${nameOf(state, tpu)} within ${options.startMsLimit} ms`;
    const message = `${nameOf(state, before)} ${what}`;
    return lose(state, [{ tpu: before, code: 'worker-silent', message }], now);
  }
  const hosts = members.flatMap((member, host) =>
    member.status === 'absent' || member.host !== null ? [] : [host],
  );
  const guests = (host: number): number => members.filter((it) => it.host === host).length;
  const least = Math.min(...hosts.map(guests));
  const idlest = hosts.filter((host) => guests(host) === least);
  const host = idlest[tpu % idlest.length];
  if (host === undefined) return awaitAny(state, tpu, now);
  const within = at(members, tpu).isNew
    ? 'no worker joined in time'
    : `no replacement joined within ${options.recovery.graceMsLimit} ms`;
  const next: MasterState = {
    ...withMember(state, tpu, { host, absentSinceMs: now }),
    recoveringSinceMs: state.recoveringSinceMs ?? now,
  };
  const cause = `${within}: the worker of ${nameOf(state, host)} hosts ${nameOf(state, tpu)} too`;
  return {
    state: next,
    actions: [noteOf(next, 'adopted', tpu, cause, now), { kind: 'adopt', tpu, host }],
  };
}

/**
 * Waits for a worker to join, because no joined worker can host Cloud TPU `tpu`. After the longer
 * of `graceMsLimit` and `startMsLimit` the run fails with `worker-exited`.
 */
function awaitAny(state: MasterState, tpu: number, now: number): Transition {
  const { recovery, startMsLimit } = state.options;
  const limitMs = Math.max(recovery.graceMsLimit, startMsLimit);
  if (now - at(state.members, tpu).absentSinceMs <= limitMs) return unchanged(state);
  const within = `no worker joined within ${limitMs} ms`;
  return fail(state, 'worker-exited', `${describeWork(state, tpu)} is lost: ${within}`);
}

/**
 * Counts Cloud TPUs as lost whose silence exceeds their limit. Cloud TPUs that fell silent
 * together, for example because their machine failed, are lost together, in one membership.
 */
function checkSilence(state: MasterState, now: number): Transition {
  const { members, options } = state;
  const limits = members.map((member) => limitOf(state, member));
  const overdueMs = (tpu: number): number => at(members, tpu).silentMs - at(limits, tpu);
  const quietest = members.map((_, tpu) => tpu).sort((a, b) => overdueMs(b) - overdueMs(a));
  if (overdueMs(at(quietest, 0)) <= 0) return unchanged(state);
  // The silences of Cloud TPUs that failed together can differ by one interval between samples. So
  // a Cloud TPU also counts as lost if its silence is less than one interval below its limit.
  const lost = quietest.filter((tpu) => overdueMs(tpu) > -options.sampleMsLimit);
  const losses = lost.map((tpu): Loss => {
    const silentMs = Math.round(at(members, tpu).silentMs);
    const what = `silent: no progress for ${silentMs} ms, at most ${Math.round(at(limits, tpu))} expected`;
    return { tpu, code: 'worker-silent', message: `${describeWork(state, tpu)} fell ${what}` };
  });
  return lose(state, losses, now);
}

/**
 * True if a Cloud TPU has a step to run or to leave. Then the failure detector watches its progress
 * counter, because a hung worker may still send heartbeats.
 */
function owesProgress({ phase }: MasterState, { status }: Member): boolean {
  return status === 'leaving' || (status === 'busy' && phase.kind === 'stepping');
}

/**
 * Returns the longest silence, in ms, that is allowed to a Cloud TPU now. Before the first step has
 * ended, a Cloud TPU without a step to run or to leave may be silent without limit: the speed of
 * the machine is unknown, and loading programs may take long.
 */
function limitOf(state: MasterState, member: Member): number {
  if (owesProgress(state, member)) return silenceLimit(state);
  const { phase, hasTimedStep, options } = state;
  if (!hasTimedStep) return Number.MAX_VALUE;
  const leastMs = phase.kind === 'stepping' ? 0 : untimedFactor * options.silenceMsLimit;
  return Math.max(leastMs, silenceLimit(state));
}

/**
 * Returns the longest time, in ms, that a Cloud TPU may make no progress in a step. The limit grows
 * with the pauses after which Cloud TPUs went on, so that the Cloud TPUs of a slow machine do not
 * count as lost.
 */
export function silenceLimit({ options, longestSilenceMs, hasTimedStep }: MasterState): number {
  const { silenceMsLimit, silenceFactor } = options;
  const leastMs = hasTimedStep ? silenceMsLimit : untimedFactor * silenceMsLimit;
  return Math.max(leastMs, silenceFactor * longestSilenceMs);
}

/**
 * Factor by which each commit makes `longestSilenceMs` smaller. So the limit of silence shrinks
 * again after one slow step, and a later loss is noticed sooner.
 */
const silenceDecay = 0.97;

/**
 * Factor on `silenceMsLimit` until a first step has shown how fast the machine is. Also the factor
 * for heartbeats between steps.
 */
export const untimedFactor = 8;

// ---------------------------------------------------------------------------------------- helpers

function fail(state: MasterState, code: ErrorCode, message: string): Transition {
  const actions: MasterAction[] = [{ kind: 'abort' }, { kind: 'failed', code, message }];
  return { state: { ...state, phase: { kind: 'failed', code, message } }, actions };
}

function refuse(state: MasterState, message: FromWorker, reason: string): Transition {
  return { state, actions: [{ kind: 'refused', message, reason }] };
}

function unchanged(state: MasterState): Transition {
  return { state, actions: [] };
}

/** Applies `next` to the state of `first`, and concatenates the actions of both transitions. */
function then(first: Transition, next: (state: MasterState) => Transition): Transition {
  const { state, actions } = next(first.state);
  return { state, actions: [...first.actions, ...actions] };
}

function sendTo(tpu: number, message: ToWorker): MasterAction {
  return { kind: 'send', tpu, message };
}

function broadcast(state: MasterState, message: ToWorker): MasterAction[] {
  return state.members.map((_, tpu) => sendTo(tpu, message));
}

function withMember(state: MasterState, tpu: number, change: Partial<Member>): MasterState {
  const members = state.members.map((member, i) => (i === tpu ? { ...member, ...change } : member));
  return { ...state, members };
}

/** Returns the state in a new phase, with the same change applied to every member. */
function toPhase(state: MasterState, phase: MasterPhase, change: Partial<Member>): MasterState {
  const members = state.members.map((member) => ({ ...member, ...change, silentMs: 0 }));
  return { ...state, phase, members };
}

function withCount(counts: readonly number[], program: number, count: number): readonly number[] {
  return counts.map((before, i) => (i === program ? count : before));
}

function noteOf(
  state: MasterState,
  event: Note['event'],
  tpu: number | null,
  cause: string,
  now: number,
): MasterAction {
  const { generation, pending, phase, recoveringSinceMs } = state;
  const order = phase.kind === 'stepping' ? phase.order : pending;
  const program = order?.program ?? null;
  const step = order?.step ?? null;
  const elapsedMs = now - (recoveringSinceMs ?? now);
  return { kind: 'note', note: { event, generation, program, step, tpu, cause, elapsedMs } };
}

function codeOf(code: string | null): ErrorCode {
  return code !== null && Object.hasOwn(errorCodes, code) ? (code as ErrorCode) : 'worker-threw';
}

function nameOf({ options }: MasterState, tpu: number): string {
  return options.names[tpu] ?? `Cloud TPU ${tpu}`;
}

function stepName({ program, step }: StepOrder): string {
  return `step ${step} of program ${program}`;
}

function describeFailure(state: MasterState, tpu: number, message: string): string {
  return `${describeWork(state, tpu)} failed: ${message}`;
}

/** Describes a Cloud TPU at its work: `Cloud TPU 3 (x 1, y 1), at step 7 of program 0,`. */
function describeWork(state: MasterState, tpu: number): string {
  const { phase } = state;
  const what = phase.kind === 'stepping' ? `at ${stepName(phase.order)}` : `while ${phase.kind}`;
  return `${nameOf(state, tpu)}, ${what},`;
}

/**
 * Describes, for a message, which Cloud TPUs have another digest than the majority. Without a
 * majority, describes all groups of Cloud TPUs with equal digests.
 */
function describeMismatch(
  state: MasterState,
  order: StepOrder,
  reports: readonly StepReport[],
): string {
  const groups = new Map<string, string[]>();
  for (const { tpu, digest } of reports) {
    groups.set(digest, [...(groups.get(digest) ?? []), at(state.options.names, tpu)]);
  }
  const [largest, ...others] = [...groups].sort(([, a], [, b]) => b.length - a.length);
  assert(largest !== undefined, 'a step has reports');
  const [digest, holders] = largest;
  const expected =
    holders.length * 2 > reports.length
      ? `${holders.length} others have ${digest}`
      : `${holders.join(', ')} ${holders.length === 1 ? 'has' : 'have'} ${digest}, no majority`;
  const ended = others.map(([found, names]) => `${names.join(', ')} ended with weights ${found}`);
  return `${stepName(order)} differs: ${ended.join('; ')}; ${expected}`;
}
