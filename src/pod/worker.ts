import { unreachable } from '../numerics/assert.ts';
import type { Failure, FromWorker, StepOrder, StepReport, ToWorker } from './messages.ts';

/**
 * A worker, the host of one Cloud TPU: a pure function from (state, event) to (state, actions).
 *
 *   started ─▶ loading ─▶ idle ◀─▶ running ─▶ leaving
 *      │          ▲         │                    │         abort: a newer membership has begun
 *      └──▶ left ─┘ ◀───────┴────────────────────┘
 *                                any ─▶ ended
 */
export interface WorkerState {
  readonly tpu: number;
  /** By program, whether it takes its parameters from another; it has no state of its own then. */
  readonly taking: readonly boolean[];
  /** The membership it takes part in; 0 before the first. */
  readonly generation: number;
  /** The last membership that it loaded for. */
  readonly loadedGeneration: number;
  readonly phase: WorkerPhase;
  /** By program, the step that comes next in this membership. */
  readonly next: readonly number[];
  /** By program, after how many steps its parameters surely are; null when it may have none. */
  readonly steps: readonly number[] | null;
  /** Whether it has those of the step before as well: until the next step writes over them. */
  readonly keepsBefore: boolean;
}

/** What a worker is doing. */
export type WorkerPhase =
  | { readonly kind: 'started' }
  | { readonly kind: 'left' }
  | { readonly kind: 'loading'; readonly steps: readonly number[] }
  | { readonly kind: 'idle' }
  | { readonly kind: 'running'; readonly order: StepOrder }
  /** A newer membership has begun while a step ran, which has been told to end. */
  | { readonly kind: 'leaving' }
  | { readonly kind: 'ended' };

/** What a worker is told. */
export type WorkerEvent =
  /** Also when it meets a master again. */
  | { readonly kind: 'started' }
  | { readonly kind: 'message'; readonly message: ToWorker }
  /** With the digest of each program's parameters as they are now. */
  | { readonly kind: 'loaded'; readonly digests: readonly string[] }
  | { readonly kind: 'ran'; readonly report: Omit<StepReport, 'tpu' | 'program' | 'step'> }
  /** The step ended before its end, as the master wished. */
  | { readonly kind: 'interrupted' }
  | ({ readonly kind: 'threw' } & Failure)
  /** The master is gone. */
  | { readonly kind: 'disconnected' };

/** What a worker wants done, in this order. */
export type WorkerAction =
  | { readonly kind: 'send'; readonly message: FromWorker }
  /** Takes its place in this membership: what is loaded already need not be loaded again. */
  | { readonly kind: 'load'; readonly generation: number; readonly steps: readonly number[] }
  | { readonly kind: 'run'; readonly order: StepOrder }
  /** Ends the step that runs as soon as can be. */
  | { readonly kind: 'interrupt' }
  | { readonly kind: 'end' };

/** The next state, and what is to be done. */
export interface WorkerTransition {
  readonly state: WorkerState;
  readonly actions: readonly WorkerAction[];
}

/** A worker before its first membership. */
export function initialWorker(tpu: number, taking: readonly boolean[]): WorkerState {
  const phase: WorkerPhase = { kind: 'started' };
  const none = { generation: 0, loadedGeneration: 0, next: [], steps: null, keepsBefore: false };
  return { ...none, tpu, taking, phase };
}

/** What the worker does about `event`. A message that does not belong to its state is left aside. */
export function worker(state: WorkerState, event: WorkerEvent): WorkerTransition {
  if (state.phase.kind === 'ended') return unchanged(state);
  switch (event.kind) {
    case 'started':
      return onStarted(state);
    case 'message':
      return onMessage(state, event.message);
    case 'loaded':
      return onLoaded(state, event.digests);
    case 'ran':
      return onRan(state, event.report);
    case 'interrupted':
      return onInterrupted(state);
    case 'threw':
      return onThrew(state, event);
    case 'disconnected':
      return end(state);
    default:
      return unreachable(event);
  }
}

function onStarted(state: WorkerState): WorkerTransition {
  const { tpu, generation, steps } = state;
  return say(state, { kind: 'joined', tpu, generation, steps });
}

function onMessage(state: WorkerState, message: ToWorker): WorkerTransition {
  switch (message.kind) {
    case 'abort':
      return onAbort(state, message.generation);
    case 'load':
      return onLoad(state, message.generation, message.steps);
    case 'start-step':
      return onStartStep(state, message);
    case 'greet':
      return onStarted(state);
    case 'stop':
      return message.generation < state.generation ? unchanged(state) : end(state);
    default:
      return unreachable(message);
  }
}

/** A newer membership: what runs is to end first, and then all wait for one another. */
function onAbort(state: WorkerState, generation: number): WorkerTransition {
  if (generation <= state.generation) return unchanged(state);
  const next = { ...state, generation };
  switch (state.phase.kind) {
    case 'running':
      return { state: to(next, { kind: 'leaving' }), actions: [{ kind: 'interrupt' }] };
    case 'leaving':
      return unchanged(next);
    default:
      return left(next);
  }
}

/** Once for each membership, and not while a step runs. */
function onLoad(
  state: WorkerState,
  generation: number,
  steps: readonly number[],
): WorkerTransition {
  const { kind } = state.phase;
  const isNext = generation >= state.generation && generation > state.loadedGeneration;
  if (!isNext || kind === 'running' || kind === 'leaving') return unchanged(state);
  return {
    state: {
      ...state,
      generation,
      loadedGeneration: generation,
      phase: { kind: 'loading', steps },
    },
    actions: [{ kind: 'load', generation, steps }],
  };
}

/** Only the step that comes next: an order that arrives twice is carried out once. */
function onStartStep(
  state: WorkerState,
  message: ToWorker & { kind: 'start-step' },
): WorkerTransition {
  const { kind: _, generation, ...order } = message;
  const isNext = state.next[order.program] === order.step;
  if (generation !== state.generation || state.phase.kind !== 'idle' || !isNext)
    return unchanged(state);
  const phase: WorkerPhase = { kind: 'running', order };
  const running = { ...state, phase, steps: state.next, keepsBefore: false };
  return { state: running, actions: [{ kind: 'run', order }] };
}

function onLoaded(state: WorkerState, digests: readonly string[]): WorkerTransition {
  const { phase, tpu, generation, taking } = state;
  if (phase.kind !== 'loading') return unchanged(state);
  const next = phase.steps;
  const steps = holds(state.steps, next, taking, state.keepsBefore) ? next : null;
  const keepsBefore = state.keepsBefore && holds(state.steps, next, taking, false);
  const idle: WorkerState = { ...state, phase: { kind: 'idle' }, next, steps, keepsBefore };
  return say(idle, { kind: 'ready', tpu, generation, digests });
}

/**
 * Whether one whose parameters are after `steps` steps has those after `wanted` steps: they are
 * its own, or those that it has read last, if it keeps them. A program that takes its parameters from
 * another has none to lose: an evaluation may begin again, at step 0.
 */
export function holds(
  steps: readonly number[] | null,
  wanted: readonly number[],
  taking: readonly boolean[],
  keepsBefore: boolean,
): boolean {
  if (steps === null) return false;
  return wanted.every((count, i) => {
    return taking[i] || count === steps[i] || (keepsBefore && count + 1 === steps[i]);
  });
}

function onRan(
  state: WorkerState,
  report: Omit<StepReport, 'tpu' | 'program' | 'step'>,
): WorkerTransition {
  const { tpu, generation, phase } = state;
  if (phase.kind === 'leaving') return left(state);
  if (phase.kind !== 'running') return unchanged(state);
  const { program, step } = phase.order;
  const next = state.next.map((count, i) => (i === program ? step + 1 : count));
  const idle: WorkerState = {
    ...state,
    ...{ phase: { kind: 'idle' }, next, steps: next, keepsBefore: true },
  };
  return say(idle, { kind: 'step-done', generation, tpu, program, step, ...report });
}

function onInterrupted(state: WorkerState): WorkerTransition {
  if (state.phase.kind === 'leaving') return left(state);
  if (state.phase.kind === 'running') return unchanged(to(state, { kind: 'left' }));
  return unchanged(state);
}

function onThrew(state: WorkerState, failure: Failure): WorkerTransition {
  const { tpu, generation } = state;
  const { code, message } = failure;
  return {
    state: to(state, { kind: 'ended' }),
    actions: [
      { kind: 'send', message: { kind: 'failed', tpu, generation, code, message } },
      { kind: 'end' },
    ],
  };
}

function left(state: WorkerState): WorkerTransition {
  const { tpu, generation } = state;
  return say(to(state, { kind: 'left' }), { kind: 'aborted', tpu, generation });
}

function to(state: WorkerState, phase: WorkerPhase): WorkerState {
  return { ...state, phase };
}

function unchanged(state: WorkerState): WorkerTransition {
  return { state, actions: [] };
}

function say(state: WorkerState, message: FromWorker): WorkerTransition {
  return { state, actions: [{ kind: 'send', message }] };
}

function end(state: WorkerState): WorkerTransition {
  return { state: to(state, { kind: 'ended' }), actions: [{ kind: 'end' }] };
}
