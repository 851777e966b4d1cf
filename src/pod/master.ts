import { assert, at, unreachable } from '../numerics/assert.ts';
import { type ErrorCode, errorCodes } from '../numerics/error.ts';
import type { FromWorker, StepOrder, StepReport, ToWorker } from './messages.ts';

/**
 * The master of a slice: a pure function from (state, event, now) to (state, actions). Threads,
 * sockets and the simulator drive the same function; it never waits and never reads a clock.
 *
 *   joining ─▶ loading ─▶ ready ◀─▶ stepping        (a step ends with a commit)
 *      └──────────┴─────────┴──────────┴──▶ failed
 *                           └──────────────▶ done
 *
 * Recovery will be one more phase between `stepping` and `loading`: {@link lose}, the only way to
 * `failed` when a Cloud TPU is lost, is where a membership with the next epoch begins instead, and
 * `load` goes out again. Messages of the older epoch are refused already.
 */
export interface MasterState {
  readonly options: MasterOptions;
  /** Number of this membership; messages of any other are refused. */
  readonly epoch: number;
  readonly phase: MasterPhase;
  readonly members: readonly Member[];
  /** When heartbeats were last sampled, in ms. */
  readonly sampledMs: number;
  /** The longest silence in ms that ended well: what this machine takes for its longest task. */
  readonly longestGapMs: number;
}

export interface MasterOptions {
  /** How messages name each Cloud TPU, by number: `Cloud TPU 3 (x 1, y 1)`. */
  readonly names: readonly string[];
  /** All must have joined, and then loaded, within this many ms. */
  readonly startMsLimit: number;
  /** A Cloud TPU that shows no progress for this many ms is lost. */
  readonly silenceMsLimit: number;
  /** … or for this many times the longest silence that ended well, if that is more. */
  readonly silenceFactor: number;
  /** A gap between two samples counts no more than this: the master itself may have been held up. */
  readonly sampleMsLimit: number;
}

export type MasterPhase =
  | { readonly kind: 'joining'; readonly sinceMs: number }
  | { readonly kind: 'loading'; readonly sinceMs: number }
  | { readonly kind: 'ready' }
  | { readonly kind: 'stepping'; readonly order: StepOrder }
  | { readonly kind: 'done' }
  | { readonly kind: 'failed'; readonly code: ErrorCode; readonly message: string };

interface Member {
  /** `busy` owes an answer and must show progress. */
  readonly status: 'absent' | 'joined' | 'busy' | 'ready';
  readonly report: StepReport | null;
  /** The last value seen of its progress counter. */
  readonly pulse: number;
  readonly silentMs: number;
}

export type MasterEvent =
  | { readonly kind: 'message'; readonly message: FromWorker }
  /** The experiment asks for a step; only when `ready`. */
  | { readonly kind: 'begin-step'; readonly order: StepOrder }
  /** The worker of a Cloud TPU is gone: its thread ended, its socket closed. */
  | { readonly kind: 'exited'; readonly tpu: number; readonly reason: string }
  /** Something that serves all Cloud TPUs failed: `who` is `the data loader`, say. */
  | {
      readonly kind: 'service-failed';
      readonly who: string;
      readonly code: string | null;
      readonly message: string;
    }
  /** Progress counters of all Cloud TPUs, sampled at regular intervals. */
  | { readonly kind: 'sample'; readonly pulses: readonly number[] }
  | { readonly kind: 'stop' };

export type MasterAction =
  | { readonly kind: 'send'; readonly tpu: number; readonly message: ToWorker }
  /** All are loaded: steps may begin. */
  | { readonly kind: 'ready' }
  /** All replicas hold the same weights: the step counts. Reports in order of Cloud TPU. */
  | {
      readonly kind: 'commit';
      readonly order: StepOrder;
      readonly digest: string;
      readonly reports: readonly StepReport[];
    }
  /** A message that does not belong here was left aside. */
  | { readonly kind: 'refused'; readonly message: FromWorker; readonly reason: string }
  /** End every wait of every worker: the run is over. */
  | { readonly kind: 'abort' }
  | { readonly kind: 'failed'; readonly code: ErrorCode; readonly message: string };

export interface Transition {
  readonly state: MasterState;
  readonly actions: readonly MasterAction[];
}

/** A master that waits for its workers, from `now` (ms) on. */
export function initialMaster(options: MasterOptions, now: number): MasterState {
  assert(options.names.length > 0, 'a slice has at least one Cloud TPU');
  const absent: Member = { status: 'absent', report: null, pulse: 0, silentMs: 0 };
  return {
    options,
    epoch: 1,
    phase: { kind: 'joining', sinceMs: now },
    members: options.names.map(() => absent),
    sampledMs: now,
    longestGapMs: 0,
  };
}

/** What the master does about `event` at time `now` (ms). */
export function master(state: MasterState, event: MasterEvent, now: number): Transition {
  if (isOver(state)) return leave(state);
  switch (event.kind) {
    case 'message':
      return onMessage(state, event.message, now);
    case 'begin-step':
      return onBeginStep(state, event.order);
    case 'exited':
      return onExited(state, event.tpu, event.reason);
    case 'service-failed':
      return fail(state, codeOf(event.code), `${event.who} failed: ${event.message}`);
    case 'sample':
      return onSample(state, event.pulses, now);
    case 'stop':
      return {
        state: { ...state, phase: { kind: 'done' } },
        actions: broadcast(state, { kind: 'stop', epoch: state.epoch }),
      };
    default:
      return unreachable(event);
  }
}

export function isOver(state: MasterState): boolean {
  return state.phase.kind === 'done' || state.phase.kind === 'failed';
}

function onMessage(state: MasterState, message: FromWorker, now: number): Transition {
  if (message.tpu >= state.members.length) return refuse(state, message, 'no such Cloud TPU');
  if (message.kind === 'joined') return onJoined(state, message, now);
  if (message.epoch !== state.epoch) {
    return refuse(state, message, `membership ${message.epoch}, now ${state.epoch}`);
  }
  switch (message.kind) {
    case 'ready':
      return onReady(state, message);
    case 'step-done':
      return onStepDone(state, message);
    case 'failed':
      return lose(
        state,
        codeOf(message.code),
        describeFailure(state, message.tpu, message.message),
      );
    default:
      return unreachable(message);
  }
}

function onJoined(
  state: MasterState,
  message: FromWorker & { kind: 'joined' },
  now: number,
): Transition {
  if (state.phase.kind !== 'joining') return refuse(state, message, 'the membership is closed');
  if (at(state.members, message.tpu).status !== 'absent') {
    return refuse(state, message, 'it has joined already');
  }
  const joined = withMember(state, message.tpu, { status: 'joined' });
  if (!joined.members.every((member) => member.status === 'joined')) return leave(joined);
  const loading: MasterState = {
    ...joined,
    phase: { kind: 'loading', sinceMs: now },
    members: joined.members.map((member) => ({ ...member, status: 'busy', silentMs: 0 })),
  };
  return { state: loading, actions: broadcast(loading, { kind: 'load', epoch: loading.epoch }) };
}

function onReady(state: MasterState, message: FromWorker & { kind: 'ready' }): Transition {
  if (state.phase.kind !== 'loading') return refuse(state, message, 'nothing is being loaded');
  const next = withMember(state, message.tpu, { status: 'ready' });
  if (!next.members.every((member) => member.status === 'ready')) return leave(next);
  return { state: { ...next, phase: { kind: 'ready' } }, actions: [{ kind: 'ready' }] };
}

function onBeginStep(state: MasterState, order: StepOrder): Transition {
  assert(state.phase.kind === 'ready', `a step begins when ready, not ${state.phase.kind}`);
  const stepping: MasterState = {
    ...state,
    phase: { kind: 'stepping', order },
    members: state.members.map((member) => ({
      ...member,
      status: 'busy',
      report: null,
      silentMs: 0,
    })),
  };
  return {
    state: stepping,
    actions: broadcast(stepping, { kind: 'start-step', epoch: state.epoch, ...order }),
  };
}

function onStepDone(state: MasterState, message: FromWorker & { kind: 'step-done' }): Transition {
  const { phase } = state;
  if (phase.kind !== 'stepping') return refuse(state, message, 'no step is running');
  const { program, step } = phase.order;
  if (message.program !== program || message.step !== step) {
    return refuse(state, message, `step ${step} of program ${program} is running`);
  }
  if (at(state.members, message.tpu).status !== 'busy')
    return refuse(state, message, 'told before');
  const { kind: _, epoch: __, ...report } = message;
  const next = withMember(state, message.tpu, { status: 'ready', report });
  const reports = next.members.flatMap((member) => member.report ?? []);
  return reports.length < next.members.length ? leave(next) : commit(next, phase.order, reports);
}

function commit(state: MasterState, order: StepOrder, reports: readonly StepReport[]): Transition {
  const digest = at(reports, 0).digest;
  if (reports.some((report) => report.digest !== digest)) {
    return fail(state, 'digest-mismatch', describeMismatch(state, order, reports));
  }
  return {
    state: { ...state, phase: { kind: 'ready' } },
    actions: [{ kind: 'commit', order, digest, reports }],
  };
}

function onExited(state: MasterState, tpu: number, reason: string): Transition {
  return lose(state, 'worker-exited', `${describeWork(state, tpu)} exited: ${reason}`);
}

/** Counts the silence of those that owe an answer, and gives up on one that has been silent too long. */
function onSample(state: MasterState, pulses: readonly number[], now: number): Transition {
  const elapsedMs = Math.min(now - state.sampledMs, state.options.sampleMsLimit);
  let longestGapMs = state.longestGapMs;
  const members = state.members.map((member, tpu): Member => {
    const pulse = pulses[tpu] ?? 0;
    if (member.status !== 'busy') return { ...member, pulse, silentMs: 0 };
    if (pulse === member.pulse) return { ...member, silentMs: member.silentMs + elapsedMs };
    if (state.phase.kind === 'stepping') longestGapMs = Math.max(longestGapMs, member.silentMs);
    return { ...member, pulse, silentMs: 0 };
  });
  const next: MasterState = { ...state, members, longestGapMs, sampledMs: now };
  return checkDeadlines(next, now);
}

function checkDeadlines(state: MasterState, now: number): Transition {
  const { phase, options } = state;
  switch (phase.kind) {
    case 'joining':
    case 'loading':
      return now - phase.sinceMs > options.startMsLimit
        ? loseLate(state, phase.kind)
        : leave(state);
    case 'stepping':
      return checkSilence(state);
    case 'ready':
    case 'done':
    case 'failed':
      return leave(state);
    default:
      return unreachable(phase);
  }
}

function loseLate(state: MasterState, phase: 'joining' | 'loading'): Transition {
  const done = phase === 'joining' ? 'joined' : 'ready';
  const late = state.options.names.filter((_, tpu) => at(state.members, tpu).status !== done);
  const what = phase === 'joining' ? 'did not start' : 'did not finish loading its programs';
  const message = `${late.join(', ')} ${what} within ${state.options.startMsLimit} ms`;
  return lose(state, 'worker-silent', message);
}

function checkSilence(state: MasterState): Transition {
  const limitMs = silenceLimit(state);
  let quietest = 0;
  state.members.forEach((member, tpu) => {
    if (member.silentMs > at(state.members, quietest).silentMs) quietest = tpu;
  });
  const { silentMs } = at(state.members, quietest);
  if (silentMs <= limitMs) return leave(state);
  const what = `silent: no progress for ${Math.round(silentMs)} ms, at most ${Math.round(limitMs)} expected`;
  return lose(state, 'worker-silent', `${describeWork(state, quietest)} fell ${what}`);
}

/** How long a Cloud TPU may show no progress, in ms. */
export function silenceLimit(state: MasterState): number {
  return Math.max(state.options.silenceMsLimit, state.options.silenceFactor * state.longestGapMs);
}

/** A Cloud TPU is lost. Today the run ends here; recovery will begin a new membership here. */
function lose(state: MasterState, code: ErrorCode, message: string): Transition {
  return fail(state, code, message);
}

function fail(state: MasterState, code: ErrorCode, message: string): Transition {
  const actions: MasterAction[] = [{ kind: 'abort' }, { kind: 'failed', code, message }];
  return { state: { ...state, phase: { kind: 'failed', code, message } }, actions };
}

function refuse(state: MasterState, message: FromWorker, reason: string): Transition {
  return { state, actions: [{ kind: 'refused', message, reason }] };
}

function leave(state: MasterState): Transition {
  return { state, actions: [] };
}

function broadcast(state: MasterState, message: ToWorker): MasterAction[] {
  return state.members.map((_, tpu) => ({ kind: 'send', tpu, message }));
}

function withMember(state: MasterState, tpu: number, change: Partial<Member>): MasterState {
  const members = state.members.map((member, i) => (i === tpu ? { ...member, ...change } : member));
  return { ...state, members };
}

function codeOf(code: string | null): ErrorCode {
  return code !== null && Object.hasOwn(errorCodes, code) ? (code as ErrorCode) : 'worker-threw';
}

function describeFailure(state: MasterState, tpu: number, message: string): string {
  return `${describeWork(state, tpu)} failed: ${message}`;
}

/** `Cloud TPU 3 (x 1, y 1), at step 7,` */
function describeWork(state: MasterState, tpu: number): string {
  const name = state.options.names[tpu] ?? `Cloud TPU ${tpu}`;
  const { phase } = state;
  if (phase.kind !== 'stepping') return `${name}, while ${phase.kind},`;
  return `${name}, at step ${phase.order.step} of program ${phase.order.program},`;
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
  const minority = others.map(
    ([found, names]) => `${names.join(', ')} ended with weights ${found}`,
  );
  return `step ${order.step} of program ${order.program} differs: ${minority.join('; ')}; ${expected}`;
}
