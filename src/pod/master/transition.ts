import type { ErrorCode } from '../../numerics/error.ts';
import type { FromWorker, ToWorker } from '../messages.ts';
import type { MasterAction } from './action.ts';
import type { MasterState } from './state.ts';

/** Result of an event: the next state, and the actions for the driver. */
export interface Transition {
  readonly state: MasterState;
  readonly actions: readonly MasterAction[];
}

/** Returns a transition to `state` without actions. */
export function unchanged(state: MasterState): Transition {
  return { state, actions: [] };
}

/** Ends the run with an error. */
export function fail(state: MasterState, code: ErrorCode, message: string): Transition {
  const actions: MasterAction[] = [{ kind: 'abort' }, { kind: 'failed', code, message }];
  return { state: { ...state, phase: { kind: 'failed', code, message } }, actions };
}

/** Ignores a message that does not fit the state. */
export function refuse(state: MasterState, message: FromWorker, reason: string): Transition {
  return { state, actions: [{ kind: 'refused', message, reason }] };
}

/**
 * Performs two transitions, one after the other: `first`, then the result of `next` for the state
 * of `first`. Returns the last state and the actions of both.
 */
export function andThen(first: Transition, next: (state: MasterState) => Transition): Transition {
  const { state, actions } = next(first.state);
  return { state, actions: [...first.actions, ...actions] };
}

/** Returns the action that sends a message to the worker of one Cloud TPU. */
export function sendTo(tpu: number, message: ToWorker): MasterAction {
  return { kind: 'send', tpu, message };
}

/** Returns the actions that send a message to the workers of all Cloud TPUs. */
export function broadcast(state: MasterState, message: ToWorker): MasterAction[] {
  return state.members.map((_, tpu) => sendTo(tpu, message));
}
