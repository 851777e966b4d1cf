import { unreachable } from '../numerics/assert.ts';
import type { Failure, FromWorker, StepOrder, StepReport, ToWorker } from './messages.ts';

/**
 * A worker, the host of one Cloud TPU: a pure function from (state, event) to (state, actions).
 *
 *   started ─▶ loading ─▶ idle ◀─▶ running
 *      └──────────┴────────┴─────────┴──▶ ended
 */
export interface WorkerState {
  readonly tpu: number;
  /** The membership it takes part in; 0 before the first. */
  readonly epoch: number;
  readonly phase: WorkerPhase;
}

export type WorkerPhase =
  | { readonly kind: 'started' }
  | { readonly kind: 'loading' }
  | { readonly kind: 'idle' }
  | { readonly kind: 'running'; readonly order: StepOrder }
  | { readonly kind: 'ended' };

export type WorkerEvent =
  | { readonly kind: 'started' }
  | { readonly kind: 'message'; readonly message: ToWorker }
  | { readonly kind: 'loaded' }
  | { readonly kind: 'ran'; readonly report: Omit<StepReport, 'tpu' | 'program' | 'step'> }
  | ({ readonly kind: 'threw' } & Failure)
  /** The master is gone. */
  | { readonly kind: 'disconnected' };

export type WorkerAction =
  | { readonly kind: 'send'; readonly message: FromWorker }
  | { readonly kind: 'load' }
  | { readonly kind: 'run'; readonly order: StepOrder }
  | { readonly kind: 'end' };

export interface WorkerTransition {
  readonly state: WorkerState;
  readonly actions: readonly WorkerAction[];
}

export function initialWorker(tpu: number): WorkerState {
  return { tpu, epoch: 0, phase: { kind: 'started' } };
}

/** What the worker does about `event`. A message that does not belong to its state is left aside. */
export function worker(state: WorkerState, event: WorkerEvent): WorkerTransition {
  if (state.phase.kind === 'ended') return { state, actions: [] };
  switch (event.kind) {
    case 'started':
      return say(state, { kind: 'joined', tpu: state.tpu });
    case 'message':
      return onMessage(state, event.message);
    case 'loaded':
      return say(to(state, { kind: 'idle' }), {
        kind: 'ready',
        tpu: state.tpu,
        epoch: state.epoch,
      });
    case 'ran':
      return onRan(state, event.report);
    case 'threw':
      return onThrew(state, event);
    case 'disconnected':
      return end(state);
    default:
      return unreachable(event);
  }
}

function onMessage(state: WorkerState, message: ToWorker): WorkerTransition {
  switch (message.kind) {
    case 'load':
      return onLoad(state, message.epoch);
    case 'start-step': {
      if (message.epoch !== state.epoch || state.phase.kind !== 'idle')
        return { state, actions: [] };
      const { kind: _, epoch: __, ...order } = message;
      return { state: to(state, { kind: 'running', order }), actions: [{ kind: 'run', order }] };
    }
    case 'stop':
      return message.epoch < state.epoch ? { state, actions: [] } : end(state);
    default:
      return unreachable(message);
  }
}

/** A newer membership always begins with loading, wherever the worker stands. */
function onLoad(state: WorkerState, epoch: number): WorkerTransition {
  if (epoch <= state.epoch) return { state, actions: [] };
  return { state: { ...state, epoch, phase: { kind: 'loading' } }, actions: [{ kind: 'load' }] };
}

function onRan(
  state: WorkerState,
  report: Omit<StepReport, 'tpu' | 'program' | 'step'>,
): WorkerTransition {
  if (state.phase.kind !== 'running') return { state, actions: [] };
  const { program, step } = state.phase.order;
  const { tpu, epoch } = state;
  return say(to(state, { kind: 'idle' }), {
    kind: 'step-done',
    epoch,
    tpu,
    program,
    step,
    ...report,
  });
}

function onThrew(state: WorkerState, failure: Failure): WorkerTransition {
  const { tpu, epoch } = state;
  const { code, message } = failure;
  return {
    state: to(state, { kind: 'ended' }),
    actions: [
      { kind: 'send', message: { kind: 'failed', tpu, epoch, code, message } },
      { kind: 'end' },
    ],
  };
}

function to(state: WorkerState, phase: WorkerPhase): WorkerState {
  return { ...state, phase };
}

function say(state: WorkerState, message: FromWorker): WorkerTransition {
  return { state, actions: [{ kind: 'send', message }] };
}

function end(state: WorkerState): WorkerTransition {
  return { state: to(state, { kind: 'ended' }), actions: [{ kind: 'end' }] };
}
