import { assert, at, unreachable } from '../numerics/assert.ts';
import { type ErrorCode, errorCodes } from '../numerics/error.ts';
import type { FromWorker, StepOrder, StepReport, ToWorker } from './messages.ts';
import { holds } from './worker.ts';

/**
 * The master of a slice: a pure function from (state, event, now) to (state, actions). Threads,
 * sockets and the simulator drive the same function; it never waits and never reads a clock.
 *
 *   joining ─▶ (rolling back) ─▶ loading ─▶ (restoring) ─▶ ready ◀─▶ stepping ─▶ done
 *      ▲                                                                │
 *      └────── a loss in any phase: a new membership, generation + 1 ───┘      failed
 *
 * A step ends with a commit. After the loss of a Cloud TPU:
 *
 * 1. Every other Cloud TPU leaves the step and says so, and a replacement joins.
 * 2. All load for the new generation.
 * 3. A Cloud TPU without parameters takes those of the last committed step from another. When none has
 *    them, they come from a checkpoint, and the steps since then run again.
 * 4. The interrupted step runs again.
 *
 * A loss in any of these steps begins them again, with another generation. See docs/ARCHITECTURE.md,
 * Recovery.
 */
export interface MasterState {
  readonly options: MasterOptions;
  /** Number of this membership; messages of any other are refused. */
  readonly generation: number;
  readonly phase: MasterPhase;
  readonly members: readonly Member[];
  /** By program, the steps after which the parameters are. Behind `told` while steps repeat. */
  readonly steps: readonly number[];
  /** By program, the steps that were committed. */
  readonly told: readonly number[];
  /** By program, the digest of its parameters after `told` steps, if known. */
  readonly digests: readonly (string | null)[];
  /** The step that was asked for and is not committed. */
  readonly pending: StepOrder | null;
  /** Whether there are parameters that must not get lost. */
  readonly isEstablished: boolean;
  /** Since when, in ms, something is out of order. */
  readonly troubleSinceMs: number | null;
  /** The last membership in which parameters came from a checkpoint. */
  readonly rolledBackGeneration: number;
  /** The step whose replicas differed without a majority. */
  readonly disputed: StepOrder | null;
  /** When heartbeats were last sampled, in ms. */
  readonly sampledMs: number;
  /**
   * The longest silence in ms that ended well, lately: what this machine takes for its longest task.
   */
  readonly longestGapMs: number;
  /** Whether a step has ended well under this master: before, nobody knows how slow the machine is. */
  readonly isPaced: boolean;
  /** When a worker of its own joined for a Cloud TPU last, in ms; null before the first. */
  readonly joinedMs: number | null;
}

/** What a master is given once, at its start. */
export interface MasterOptions {
  /** How messages name each Cloud TPU, by number: `Cloud TPU 3 (x 1, y 1)`. */
  readonly names: readonly string[];
  /** By program, whether it takes its parameters from another; it has no state of its own then. */
  readonly taking: readonly boolean[];
  /** All must have joined, and then loaded, within this many ms. */
  readonly startMsLimit: number;
  /**
   * At the start no more workers are expected once this many ms have passed since one joined last;
   * those that came then host the missing Cloud TPUs too, unless the policy is `none`.
   */
  readonly quietMsLimit: number;
  /** A Cloud TPU that shows no progress for this many ms is lost; eight times it before a step ended. */
  readonly silenceMsLimit: number;
  /** … or for this many times the longest silence that ended well, if that is more. */
  readonly silenceFactor: number;
  /** A gap between two samples counts no more than this: the master itself may have been held up. */
  readonly sampleMsLimit: number;
  readonly recovery: RecoveryOptions;
}

/**
 * What becomes of a run that loses a Cloud TPU: `none`: it ends. `replace`: a replacement takes
 * over. `slice-restart`: the whole slice goes back to the last checkpoint, as on the hardware.
 */
export const recoveryPolicies = ['none', 'replace', 'slice-restart'] as const;
/** One of {@link recoveryPolicies}. */
export type RecoveryPolicy = (typeof recoveryPolicies)[number];

/** What happens after a loss. */
export interface RecoveryOptions {
  readonly policy: RecoveryPolicy;
  /**
   * A replacement must join within this many ms, more than 0; then another worker hosts the Cloud
   * TPU too, and has `startMsLimit` for it.
   */
  readonly graceMsLimit: number;
  /** A Cloud TPU that is lost more often than this in one step ends the run; 5 is usual. */
  readonly lossesPerStepMax: number;
  /** … or than this in a minute. */
  readonly lossesPerMinuteMax: number;
}

/** Where a membership stands. Times are in ms. */
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
   * `absent`: expected to join. `leaving`: told to leave a step. `present`: has joined, or left.
   * `busy`: owes an answer. A leaving or busy one must show progress.
   */
  readonly status: 'absent' | 'leaving' | 'present' | 'busy' | 'ready';
  /** Whether it has the parameters after `steps`. */
  readonly holdsState: boolean;
  readonly report: StepReport | null;
  /** The last value seen of the counter that counts for it now. */
  readonly counter: number;
  readonly silentMs: number;
  readonly absentSinceMs: number;
  /** Whether no worker has joined for it under this master, and none was lost. */
  readonly isNew: boolean;
  /** The Cloud TPU whose worker hosts this one too: they are lost together. Most have their own. */
  readonly host: number | null;
  /** How often it has done wrong since it was last replaced. */
  readonly faults: number;
  readonly lossesThisStep: number;
  /** When it was lost, in the last minute. */
  readonly lossesMs: readonly number[];
}

/** What a master is told. */
export type MasterEvent =
  | { readonly kind: 'message'; readonly message: FromWorker }
  /** The experiment asks for a step; only when `ready`. */
  | { readonly kind: 'begin-step'; readonly order: StepOrder }
  /**
   * The worker of a Cloud TPU is gone: its thread ended, its socket closed, or it ended before it
   * could join. Told of the present worker only, not of one that has been replaced. `code` is that
   * of the error which the worker gave, if it gave one.
   */
  | {
      readonly kind: 'exited';
      readonly tpu: number;
      readonly reason: string;
      readonly code?: string | null;
    }
  /** Something that serves all Cloud TPUs failed: `who` is `the data loader`, say. */
  | {
      readonly kind: 'service-failed';
      readonly who: string;
      readonly code: string | null;
      readonly message: string;
    }
  /** The answer to `restore`. */
  | { readonly kind: 'restored'; readonly tpu: number; readonly generation: number }
  /** The answer to `rollback`: by program, the steps that the parameters at hand are after. */
  | { readonly kind: 'rolled-back'; readonly generation: number; readonly steps: readonly number[] }
  /** The experiment has set a program's parameters, when `ready`; null: to what nobody knows. */
  | { readonly kind: 'written'; readonly program: number; readonly digest: string | null }
  /**
   * Progress counters of all Cloud TPUs, sampled at regular intervals. `heartbeats` count any sign of life of
   * their processes, where there are such: so a loss shows before anything is asked of the lost.
   */
  | {
      readonly kind: 'sample';
      readonly progress: readonly number[];
      readonly heartbeats?: readonly number[];
    }
  | { readonly kind: 'stop' };

/** What a master wants done, in this order. */
export type MasterAction =
  | { readonly kind: 'send'; readonly tpu: number; readonly message: ToWorker }
  /** Steps may begin: all are loaded, at the start or again. */
  | { readonly kind: 'ready' }
  /** All replicas hold the same weights: the step counts. Reports in order of Cloud TPU. */
  | {
      readonly kind: 'commit';
      readonly order: StepOrder;
      readonly digest: string;
      readonly reports: readonly StepReport[];
    }
  /** A step that was committed before has been run again: its feed is used up. */
  | { readonly kind: 'repeated'; readonly order: StepOrder }
  /** A message that does not belong here was left aside. */
  | { readonly kind: 'refused'; readonly message: FromWorker; readonly reason: string }
  /** End every wait of every worker: the step, or the run, is over. */
  | { readonly kind: 'abort' }
  /** End what is left of the worker of a Cloud TPU, and only then start another, which joins. */
  | { readonly kind: 'replace'; readonly tpu: number }
  /** None came: the worker of Cloud TPU `host` is to host this one too, which joins. */
  | { readonly kind: 'adopt'; readonly tpu: number; readonly host: number }
  /** Nobody runs anything: make links and feeds new for this membership. */
  | { readonly kind: 'reset'; readonly generation: number; readonly steps: readonly number[] }
  /** Nobody has the parameters: find them in a checkpoint, then `rolled-back`. */
  | { readonly kind: 'rollback'; readonly generation: number }
  /** Copy the parameters to a Cloud TPU from another, or (null) as rolled back, then `restored`. */
  | {
      readonly kind: 'restore';
      readonly generation: number;
      readonly tpu: number;
      readonly from: number | null;
    }
  | { readonly kind: 'note'; readonly note: Note }
  | { readonly kind: 'failed'; readonly code: ErrorCode; readonly message: string };

/** An event that the user is told of: a fault, or a step of the recovery from it. */
export interface Note {
  readonly event: /** A Cloud TPU is lost. */
    | 'lost'
    /** Replicas differed, or a frame was corrupt: the step runs again. */
    | 'suspected'
    /** One that did wrong again is to be replaced. */
    | 'quarantined'
    /** No replacement came in time. */
    | 'adopted'
    /** A replacement has joined. */
    | 'replaced'
    /** It has the parameters of the last committed step. */
    | 'restored'
    /** All copies were lost: steps are repeated from a checkpoint on. */
    | 'rolled-back'
    /** Everything goes on. */
    | 'resumed';
  readonly generation: number;
  /** The step that runs, or comes next. */
  readonly program: number | null;
  readonly step: number | null;
  /** The Cloud TPU that it is about; null for all. */
  readonly tpu: number | null;
  readonly cause: string;
  /** Since the first loss was noticed, in ms. */
  readonly elapsedMs: number;
}

/** The next state, and what is to be done. */
export interface Transition {
  readonly state: MasterState;
  readonly actions: readonly MasterAction[];
}

/** Where a slice stands when a master begins: what it knows of those before it. */
export interface MasterStart {
  /** The last membership that there was; 0 for none. */
  readonly generation: number;
  /** By program, the steps done so far. */
  readonly steps: readonly number[];
  /** By program, the digest of its parameters after them, if known. */
  readonly digests: readonly (string | null)[];
  /**
   * Workers of an earlier master may hold these parameters, which must not get lost: if nobody has
   * them they are looked for in a checkpoint. Else whatever is there after loading is the state.
   */
  readonly isEstablished: boolean;
}

/** A master that waits for its workers, from `now` (ms) on; at step 0 of everything unless given. */
export function initialMaster(
  options: MasterOptions,
  now: number,
  start: MasterStart = atStepZero(options),
): MasterState {
  const { steps, digests } = start;
  const programs = options.taking.length;
  assert(options.names.length > 0, 'a slice has at least one Cloud TPU');
  assert(steps.length === programs, `steps of ${steps.length} programs, there are ${programs}`);
  assert(digests.length === programs, `digests of ${digests.length} programs, not ${programs}`);
  return {
    options,
    generation: start.generation + 1,
    phase: { kind: 'joining', sinceMs: now },
    members: options.names.map(() => ({ ...absentMember(now), isNew: true })),
    steps,
    told: steps,
    digests,
    pending: null,
    isEstablished: start.isEstablished,
    troubleSinceMs: null,
    rolledBackGeneration: 0,
    disputed: null,
    sampledMs: now,
    longestGapMs: 0,
    isPaced: false,
    joinedMs: null,
  };
}

function atStepZero({ taking }: MasterOptions): MasterStart {
  const none = { generation: 0, isEstablished: false };
  return { ...none, steps: taking.map(() => 0), digests: taking.map(() => null) };
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
    faults: 0,
    lossesThisStep: 0,
    lossesMs: [],
  };
}

/** What the master does about `event` at time `now` (ms). */
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

/** Whether the run has ended, well or not. */
export function isOver(state: MasterState): boolean {
  return state.phase.kind === 'done' || state.phase.kind === 'failed';
}

/**
 * Whether a worker of its own may take the place of a Cloud TPU: nobody has it, and no other worker
 * has been told to host it. One that comes when it may not is a spare, for the next loss.
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

/** Only a newer master can have begun a newer membership: this one commands nobody any more. */
function supersede(state: MasterState, { tpu, generation }: FromWorker): Transition {
  const found = `${nameOf(state, tpu)} is in generation ${generation}, this master in ${state.generation}`;
  return fail(state, 'superseded', `${found}: a newer master leads the run`);
}

/** One that may still be in a step must leave it first. */
function onJoined(
  state: MasterState,
  message: FromWorker & { kind: 'joined' },
  now: number,
): Transition {
  if (state.phase.kind !== 'joining') return refuse(state, message, 'the membership is closed');
  const { tpu, steps } = message;
  if (at(state.members, tpu).status !== 'absent') {
    return refuse(state, message, 'it has joined already');
  }
  const { recovery, taking } = state.options;
  // Nobody has begun a step after one that was not committed: who ended that keeps those before it.
  const keepsBefore = state.steps.every((count, i) => count === state.told[i]);
  const holdsState = keepsState(recovery) && holds(steps, state.steps, taking, keepsBefore);
  const status = steps === null ? 'present' : 'leaving';
  const { isNew, host } = at(state.members, tpu);
  const here = withMember(state, tpu, { status, holdsState, silentMs: 0, isNew: false });
  const joined: MasterState = host === null ? { ...here, joinedMs: now } : here;
  const actions: MasterAction[] =
    steps === null ? [] : [sendTo(tpu, { kind: 'abort', generation: state.generation })];
  if (state.troubleSinceMs !== null && !isNew) {
    actions.unshift(noteOf(joined, 'replaced', tpu, `${nameOf(state, tpu)} has joined`, now));
  }
  return then({ state: joined, actions }, (it) => ifGathered(it, now));
}

/**
 * Whether parameters outlast the step that a loss interrupts. Without recovery programs update
 * theirs in place: nobody knows what a step that was left has changed.
 */
function keepsState({ policy }: RecoveryOptions): boolean {
  return policy === 'replace';
}

/** A worker that says that it ends is believed, whichever membership it thinks it is in. */
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
    return refuse(state, message, 'told before');
  }
  return ifGathered(withMember(state, message.tpu, { status: 'present', silentMs: 0 }), now);
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

/** Whether weights have changed since all agreed on them: nobody must take them over. */
function hasOtherWeights(state: MasterState, found: readonly string[]): boolean {
  const { digests, steps, told, options } = state;
  return digests.some((digest, program) => {
    const isLast = at(steps, program) === at(told, program);
    const isOwn = isLast && !at(options.taking, program) && digest !== null;
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
    return refuse(state, message, 'told before');
  const { kind: _, generation: __, ...report } = message;
  const next = withMember(state, message.tpu, { status: 'ready', report });
  const reports = next.members.flatMap((member) => member.report ?? []);
  if (reports.length < next.members.length) return unchanged(next);
  const { digest } = at(reports, 0);
  if (reports.some((other) => other.digest !== digest)) {
    return disagree(next, phase.order, reports, now);
  }
  const { steps, told } = next;
  const moved = { ...next, steps: withCount(steps, program, step + 1), isPaced: true };
  if (step < at(told, program)) return repeated(moved, phase.order, digest, now);
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
      longestGapMs: gapKept * state.longestGapMs,
      members: state.members.map((member) => ({ ...member, lossesThisStep: 0 })),
      told: withCount(state.told, program, order.step + 1),
      digests: state.digests.map((before, i) => (i === program ? digest : before)),
      pending: null,
      disputed: null,
    },
    actions: [{ kind: 'commit', order, digest, reports }],
  };
}

/** A step that was committed before. In the end it must come out as it did then. */
function repeated(state: MasterState, order: StepOrder, digest: string, now: number): Transition {
  const { program, step } = order;
  const before = at(state.digests, program);
  const isLast = step + 1 === at(state.told, program);
  if (isLast && before !== null && before !== digest) {
    const message = `${stepName(order)} was repeated from a checkpoint and ended with weights ${digest}, with ${before} before`;
    return fail(state, 'digest-mismatch', message);
  }
  return then({ state, actions: [{ kind: 'repeated', order }] }, (it) => proceed(it, now));
}

// ------------------------------------------------------------------------------------ membership

/** All are here and nobody runs anything: load. */
function ifGathered(state: MasterState, now: number): Transition {
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
    assert(step <= at(state.told, i), `rolled back to step ${step}, ahead of ${state.told[i]}`);
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

/** What is there when all have loaded for the first time is the state. */
function establish(state: MasterState, now: number): Transition {
  const members = state.members.map((member) => ({ ...member, holdsState: true }));
  return proceed({ ...state, members, isEstablished: true }, now);
}

/** Lets those that lack the parameters take them from those that have them, evenly. */
function restore(state: MasterState, now: number): Transition {
  const { members, generation } = state;
  const numbers = members.map((_, tpu) => tpu);
  const sources = numbers.filter((tpu) => at(members, tpu).holdsState);
  const takers = numbers.filter((tpu) => !at(members, tpu).holdsState);
  if (takers.length === 0) return proceed(state, now);
  if (sources.length === 0 && state.rolledBackGeneration !== generation) return regroup(state, now);
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

/** Everybody has the parameters: steps to be repeated first, then the one that was interrupted. */
function proceed(state: MasterState, now: number): Transition {
  const { steps, told, pending, options } = state;
  const program = steps.findIndex((count, i) => count < at(told, i));
  if (program >= 0) {
    return start(state, { program, step: at(steps, program), takeParameters: false });
  }
  const calm: MasterState = { ...state, troubleSinceMs: null };
  const what = pending === null ? 'steps may begin' : `${stepName(pending)} runs again`;
  const actions: MasterAction[] =
    state.troubleSinceMs === null ? [] : [noteOf(state, 'resumed', null, what, now)];
  if (pending === null) {
    return {
      state: { ...calm, phase: { kind: 'ready' } },
      actions: [...actions, { kind: 'ready' }],
    };
  }
  const takeParameters = at(options.taking, pending.program);
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

/** Cloud TPUs are lost: the run ends, or a new membership begins. */
function lose(
  state: MasterState,
  causes: readonly Loss[],
  now: number,
  event: 'lost' | 'quarantined' = 'lost',
): Transition {
  const losses = [...causes, ...guestsOf(state, causes)];
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
  const next: MasterState = { ...state, members, troubleSinceMs: state.troubleSinceMs ?? now };
  const notes = losses.map(({ tpu, message }) => noteOf(next, event, tpu, message, now));
  const replacements = lost.map((tpu): MasterAction => ({ kind: 'replace', tpu }));
  return then({ state: next, actions: [...notes, ...replacements] }, (it) => regroup(it, now));
}

/** Whom the workers of those that are lost host too. */
function guestsOf(state: MasterState, causes: readonly Loss[]): readonly Loss[] {
  return state.members.flatMap(({ host }, tpu): Loss[] => {
    const cause = causes.find((it) => it.tpu === host);
    if (cause === undefined || causes.some((it) => it.tpu === tpu)) return [];
    const hosted = `${nameOf(state, tpu)} is lost with ${nameOf(state, cause.tpu)}, whose worker hosts it`;
    return [{ ...cause, tpu, message: `${hosted}: ${cause.message}` }];
  });
}

/** Whether a worker was given what it cannot work with: another one would fail in the same way. */
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

/** Begins a new membership: whoever is here leaves what it does. */
function regroup(state: MasterState, now: number): Transition {
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
    troubleSinceMs: state.troubleSinceMs ?? now,
  };
  const orders = members.flatMap(({ status }, tpu): MasterAction[] =>
    status === 'leaving' ? [sendTo(tpu, { kind: 'abort', generation })] : [],
  );
  return { state: next, actions: [{ kind: 'abort' }, ...orders] };
}

// ---------------------------------------------------------------------------------------- wrongs

/** How often one may do wrong before it is replaced. */
const faultsMax = 2;

/**
 * Replicas differ. The majority names who is wrong, and its parameters may have been so before the
 * step: it takes those of another. Without a majority the step is run again once.
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
  const { disputed } = state;
  if (disputed?.program === order.program && disputed.step === order.step) {
    return fail(state, 'digest-mismatch', `${message}, again`);
  }
  return suspect({ ...state, disputed: order }, [null], message, now);
}

function onAccused(
  state: MasterState,
  message: FromWorker & { kind: 'accused' },
  now: number,
): Transition {
  const { tpu, suspect, code } = message;
  if (suspect >= state.members.length) return refuse(state, message, 'no such Cloud TPU');
  if (at(state.members, suspect).status === 'absent') return refuse(state, message, 'it is lost');
  const what = `${describeWork(state, suspect)} did wrong, says ${nameOf(state, tpu)}: ${message.message}`;
  const { policy } = state.options.recovery;
  if (policy === 'none') return fail(state, codeOf(code), what);
  return countFaults(state, [suspect], codeOf(code), what, now);
}

/** A Cloud TPU that was wrong once may try again; one that is wrong again is replaced. */
function countFaults(
  state: MasterState,
  wrong: readonly number[],
  code: ErrorCode,
  message: string,
  now: number,
): Transition {
  const members = state.members.map((member, tpu) =>
    wrong.includes(tpu) ? { ...member, faults: member.faults + 1 } : member,
  );
  const counted: MasterState = { ...state, members };
  const again = wrong.filter((tpu) => at(members, tpu).faults >= faultsMax);
  if (again.length === 0) return suspect(counted, wrong, message, now);
  const losses = again.map((tpu) => ({ tpu, code, message }));
  return lose(counted, losses, now, 'quarantined');
}

/** The step runs again, with everybody who is here. */
function suspect(
  state: MasterState,
  suspects: readonly (number | null)[],
  message: string,
  now: number,
): Transition {
  const notes = suspects.map((tpu) => noteOf(state, 'suspected', tpu, message, now));
  return then({ state, actions: notes }, (it) => regroup(it, now));
}

/** The Cloud TPUs whose digest is not that of more than half of all. */
function minority(reports: readonly StepReport[]): readonly number[] | undefined {
  const counts = new Map<string, number>();
  for (const { digest } of reports) counts.set(digest, (counts.get(digest) ?? 0) + 1);
  const right = [...counts].find(([, count]) => count * 2 > reports.length)?.[0];
  if (right === undefined) return undefined;
  return reports.filter(({ digest }) => digest !== right).map(({ tpu }) => tpu);
}

// -------------------------------------------------------------------------------------- deadlines

/** Counts the silence of those from whom something should be heard, and gives up on the lost. */
function onSample(
  state: MasterState,
  { progress, heartbeats }: MasterEvent & { kind: 'sample' },
  now: number,
): Transition {
  const elapsedMs = Math.min(now - state.sampledMs, state.options.sampleMsLimit);
  let longestGapMs = state.longestGapMs;
  const members = state.members.map((member, tpu): Member => {
    const counters = owesProgress(state, member) ? progress : heartbeats;
    const counter = (counters ?? progress)[tpu] ?? 0;
    if (counters === undefined || member.status === 'absent') {
      return { ...member, counter, silentMs: 0 };
    }
    if (counter === member.counter) return { ...member, silentMs: member.silentMs + elapsedMs };
    if (state.phase.kind === 'stepping') longestGapMs = Math.max(longestGapMs, member.silentMs);
    return { ...member, counter, silentMs: 0 };
  });
  const next: MasterState = { ...state, members, longestGapMs, sampledMs: now };
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

/** At the start all must come in time; later each replacement has its time of grace. */
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

/** Whether nobody waits for the worker of a Cloud TPU any longer. */
function isOverdue(state: MasterState, member: Member, now: number): boolean {
  if (member.status !== 'absent') return false;
  const { startMsLimit, quietMsLimit, recovery } = state.options;
  const absentMs = now - member.absentSinceMs;
  if (member.host !== null) return absentMs > startMsLimit;
  if (!member.isNew) return absentMs > recovery.graceMsLimit;
  // After a master has ended all of its workers may have: they get more time than a single one.
  if (state.isEstablished) return absentMs > Math.max(recovery.graceMsLimit, startMsLimit / 4);
  const isQuiet = state.joinedMs !== null && now - state.joinedMs > quietMsLimit;
  return absentMs > startMsLimit || (recovery.policy !== 'none' && isQuiet);
}

/** The run ends: workers did not come, and nobody may or can take their Cloud TPUs. */
function failToStart(state: MasterState): Transition {
  const late = state.members.flatMap(({ status }, tpu) => (status === 'absent' ? [tpu] : []));
  const who = late.map((tpu) => nameOf(state, tpu)).join(', ');
  const message = `${who} did not start within ${state.options.startMsLimit} ms`;
  return fail(state, 'worker-silent', message);
}

/** Lets a worker that is here host a Cloud TPU for which no replacement came; one that does not is lost. */
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
    troubleSinceMs: state.troubleSinceMs ?? now,
  };
  const cause = `${within}: the worker of ${nameOf(state, host)} hosts ${nameOf(state, tpu)} too`;
  return {
    state: next,
    actions: [noteOf(next, 'adopted', tpu, cause, now), { kind: 'adopt', tpu, host }],
  };
}

/** Nobody is here who could host: all may start anew, as in the beginning. */
function awaitAny(state: MasterState, tpu: number, now: number): Transition {
  const { recovery, startMsLimit } = state.options;
  const limitMs = Math.max(recovery.graceMsLimit, startMsLimit);
  if (now - at(state.members, tpu).absentSinceMs <= limitMs) return unchanged(state);
  const within = `no worker joined within ${limitMs} ms`;
  return fail(state, 'worker-exited', `${describeWork(state, tpu)} is lost: ${within}`);
}

/** Cloud TPUs that fall silent together, as with their machine, are lost together. */
function checkSilence(state: MasterState, now: number): Transition {
  const { members, options } = state;
  const limits = members.map((member) => limitOf(state, member));
  const overdueMs = (tpu: number): number => at(members, tpu).silentMs - at(limits, tpu);
  const quietest = members.map((_, tpu) => tpu).sort((a, b) => overdueMs(b) - overdueMs(a));
  if (overdueMs(at(quietest, 0)) <= 0) return unchanged(state);
  // They were not sampled at the same moment of their silence.
  const lost = quietest.filter((tpu) => overdueMs(tpu) > -options.sampleMsLimit);
  const losses = lost.map((tpu): Loss => {
    const silentMs = Math.round(at(members, tpu).silentMs);
    const what = `silent: no progress for ${silentMs} ms, at most ${Math.round(at(limits, tpu))} expected`;
    return { tpu, code: 'worker-silent', message: `${describeWork(state, tpu)} fell ${what}` };
  });
  return lose(state, losses, now);
}

/** Whether one has a step to do, or to leave: then a sign of life is not enough. */
function owesProgress({ phase }: MasterState, { status }: Member): boolean {
  return status === 'leaving' || (status === 'busy' && phase.kind === 'stepping');
}

/**
 * How long one may be silent, in ms, as things stand. Loading takes its time, and nobody knows how long
 * before a step has shown how fast the machine is.
 */
function limitOf(state: MasterState, member: Member): number {
  if (owesProgress(state, member)) return silenceLimit(state);
  const { phase, isPaced, options } = state;
  if (!isPaced) return Number.MAX_VALUE;
  const leastMs = phase.kind === 'stepping' ? 0 : unpacedFactor * options.silenceMsLimit;
  return Math.max(leastMs, silenceLimit(state));
}

/** How long a Cloud TPU may show no progress, in ms: a slow machine is not a dead one. */
export function silenceLimit({ options, longestGapMs, isPaced }: MasterState): number {
  const { silenceMsLimit, silenceFactor } = options;
  const leastMs = isPaced ? silenceMsLimit : unpacedFactor * silenceMsLimit;
  return Math.max(leastMs, silenceFactor * longestGapMs);
}

/** The share of the longest silence that is kept with each step: one slow step must not hide a loss for good. */
const gapKept = 0.97;

/** How much longer than usual a silence may last before a step has shown how fast the machine is. */
const unpacedFactor = 8;

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

/** One transition after another. */
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

/** A phase in which everybody has to do the same. */
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
  const { generation, pending, phase, troubleSinceMs } = state;
  const order = phase.kind === 'stepping' ? phase.order : pending;
  const program = order?.program ?? null;
  const step = order?.step ?? null;
  const elapsedMs = now - (troubleSinceMs ?? now);
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

/** `Cloud TPU 3 (x 1, y 1), at step 7 of program 0,` */
function describeWork(state: MasterState, tpu: number): string {
  const { phase } = state;
  const what = phase.kind === 'stepping' ? `at ${stepName(phase.order)}` : `while ${phase.kind}`;
  return `${nameOf(state, tpu)}, ${what},`;
}

/** Names the Cloud TPUs that differ from the majority, or all groups when there is none. */
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
