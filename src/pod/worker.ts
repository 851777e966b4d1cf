import { unreachable } from '../numerics/assert.ts';
import type { Failure, FromWorker, StepOrder, StepReport, ToWorker } from './messages.ts';

/**
 * State of a worker, the host of one Cloud TPU. The function `worker` maps (state, event) to
 * (state, actions) and is pure. The phases of a worker:
 *
 *   started ─▶ loading ─▶ idle ◀─▶ running
 *                 ▲                   │
 *                 └──── left ◀──── leaving
 *
 * The message `abort` says that a newer membership has begun. A running worker is then in the phase
 * `leaving` until its step has stopped, and after that in the phase `left`. Not drawn: `abort`
 * leads from any other phase directly to `left`, and the phase `ended` can follow any phase.
 */
export interface WorkerState {
  readonly tpu: number;
  /**
   * For each program, by its index: true if the program copies its parameters from another program,
   * and so has no state of its own.
   */
  readonly copiesParameters: readonly boolean[];
  /** Generation of the membership that the worker takes part in; 0 before the first. */
  readonly generation: number;
  /**
   * Generation of the last membership for which the worker loaded its programs; 0 before the first.
   */
  readonly loadedGeneration: number;
  readonly phase: WorkerPhase;
  /** For each program, by its index: the number of the only step that the worker may run next. */
  readonly next: readonly number[];
  /**
   * For each program, by its index: the number of steps applied to the program's parameters. Null
   * if the worker has no parameters. Also null if the worker cannot know which parameters it has,
   * because the master may be replacing them.
   */
  readonly steps: readonly number[] | null;
  /**
   * True if the worker has the parameters from before its last step too, besides its current
   * parameters. The next step overwrites them.
   */
  readonly keepsBefore: boolean;
}

/** Phase of a worker's state machine. */
export type WorkerPhase =
  | { readonly kind: 'started' }
  | { readonly kind: 'left' }
  | { readonly kind: 'loading'; readonly steps: readonly number[] }
  | { readonly kind: 'idle' }
  | { readonly kind: 'running'; readonly order: StepOrder }
  /** A newer membership began while a step ran. The worker waits until the step has stopped. */
  | { readonly kind: 'leaving' }
  | { readonly kind: 'ended' };

/** An event for a worker's state machine. */
export type WorkerEvent =
  /**
   * The worker has started, or has connected to a master again. It sends `joined` to the master.
   */
  | { readonly kind: 'started' }
  | { readonly kind: 'message'; readonly message: ToWorker }
  /**
   * The programs are loaded. `digests` has, for each program by its index, the digest of the
   * program's current weights.
   */
  | { readonly kind: 'loaded'; readonly digests: readonly string[] }
  /** The step ran to its end. */
  | { readonly kind: 'ran'; readonly report: Omit<StepReport, 'tpu' | 'program' | 'step'> }
  /** The step stopped before its end, because the master aborted it. */
  | { readonly kind: 'interrupted' }
  | ({ readonly kind: 'threw' } & Failure)
  /** The worker has lost its connection to the master and does not connect again. */
  | { readonly kind: 'disconnected' };

/** An action for the driver of a worker. The driver performs the actions of a list in order. */
export type WorkerAction =
  | { readonly kind: 'send'; readonly message: FromWorker }
  /**
   * Prepare the programs for this membership. Programs that were loaded for an earlier membership
   * may be kept.
   */
  | { readonly kind: 'load'; readonly generation: number; readonly steps: readonly number[] }
  | { readonly kind: 'run'; readonly order: StepOrder }
  /** End the running step as soon as possible. */
  | { readonly kind: 'interrupt' }
  | { readonly kind: 'end' };

/** Result of an event: the next state, and the actions for the driver. */
export interface WorkerTransition {
  readonly state: WorkerState;
  readonly actions: readonly WorkerAction[];
}

/** Returns the state of a worker before its first membership. */
export function initialWorker(tpu: number, copiesParameters: readonly boolean[]): WorkerState {
  const phase: WorkerPhase = { kind: 'started' };
  const none = { generation: 0, loadedGeneration: 0, next: [], steps: null, keepsBefore: false };
  return { ...none, tpu, copiesParameters, phase };
}

/** Handles `event`. The worker ignores a message that does not fit its phase. */
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
  return send(state, { kind: 'joined', tpu, generation, steps });
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

/**
 * Enters a newer membership and answers `aborted`. If a step is running, first interrupts the step,
 * and answers when the step has stopped.
 */
function onAbort(state: WorkerState, generation: number): WorkerTransition {
  if (generation <= state.generation) return unchanged(state);
  const next = { ...state, generation };
  switch (state.phase.kind) {
    case 'running':
      return { state: withPhase(next, { kind: 'leaving' }), actions: [{ kind: 'interrupt' }] };
    case 'leaving':
      return unchanged(next);
    default:
      return answerAborted(next);
  }
}

/** Loads the programs at most once for each membership, and never while a step runs. */
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

/**
 * Runs the ordered step if it is the next step of its program. Ignores any other order, so an order
 * that arrives twice is carried out once.
 */
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
  const { phase, tpu, generation, copiesParameters } = state;
  if (phase.kind !== 'loading') return unchanged(state);
  const next = phase.steps;
  const steps = hasParametersAfter(state.steps, next, copiesParameters, state.keepsBefore)
    ? next
    : null;
  const keepsBefore =
    state.keepsBefore && hasParametersAfter(state.steps, next, copiesParameters, false);
  const idle: WorkerState = { ...state, phase: { kind: 'idle' }, next, steps, keepsBefore };
  return send(idle, { kind: 'ready', tpu, generation, digests });
}

/**
 * Returns true if a worker has, for each program i, the parameters after `wanted[i]` steps.
 * `steps[i]` is the number of steps applied to the parameters that it has. With `keepsBefore` the
 * worker also has the parameters from before its last step. A program with `copiesParameters[i]`
 * takes its parameters from another program and is not checked.
 */
export function hasParametersAfter(
  steps: readonly number[] | null,
  wanted: readonly number[],
  copiesParameters: readonly boolean[],
  keepsBefore: boolean,
): boolean {
  if (steps === null) return false;
  return wanted.every((count, i) => {
    return copiesParameters[i] || count === steps[i] || (keepsBefore && count + 1 === steps[i]);
  });
}

function onRan(
  state: WorkerState,
  report: Omit<StepReport, 'tpu' | 'program' | 'step'>,
): WorkerTransition {
  const { tpu, generation, phase } = state;
  if (phase.kind === 'leaving') return answerAborted(state);
  if (phase.kind !== 'running') return unchanged(state);
  const { program, step } = phase.order;
  const next = state.next.map((count, i) => (i === program ? step + 1 : count));
  const idle: WorkerState = {
    ...state,
    ...{ phase: { kind: 'idle' }, next, steps: next, keepsBefore: true },
  };
  return send(idle, { kind: 'step-done', generation, tpu, program, step, ...report });
}

function onInterrupted(state: WorkerState): WorkerTransition {
  if (state.phase.kind === 'leaving') return answerAborted(state);
  if (state.phase.kind === 'running') return unchanged(withPhase(state, { kind: 'left' }));
  return unchanged(state);
}

function onThrew(state: WorkerState, failure: Failure): WorkerTransition {
  const { tpu, generation } = state;
  const { code, message } = failure;
  return {
    state: withPhase(state, { kind: 'ended' }),
    actions: [
      { kind: 'send', message: { kind: 'failed', tpu, generation, code, message } },
      { kind: 'end' },
    ],
  };
}

function answerAborted(state: WorkerState): WorkerTransition {
  const { tpu, generation } = state;
  return send(withPhase(state, { kind: 'left' }), { kind: 'aborted', tpu, generation });
}

function withPhase(state: WorkerState, phase: WorkerPhase): WorkerState {
  return { ...state, phase };
}

function unchanged(state: WorkerState): WorkerTransition {
  return { state, actions: [] };
}

function send(state: WorkerState, message: FromWorker): WorkerTransition {
  return { state, actions: [{ kind: 'send', message }] };
}

function end(state: WorkerState): WorkerTransition {
  return { state: withPhase(state, { kind: 'ended' }), actions: [{ kind: 'end' }] };
}
