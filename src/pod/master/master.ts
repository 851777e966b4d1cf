import { at, unreachable } from '../../numerics/assert.ts';
import type { FromWorker } from '../messages.ts';
import { onAccused, onWritten } from './agreement.ts';
import { onSample } from './deadlines.ts';
import type { MasterEvent } from './event.ts';
import { onAborted, onJoined } from './joining.ts';
import { onReady, onRestored, onRolledBack } from './loading.ts';
import { errorCodeOf, onExited, onFailed } from './losses.ts';
import type { MasterState } from './state.ts';
import { onBeginStep, onStepDone } from './stepping.ts';
import { broadcast, fail, refuse, type Transition, unchanged } from './transition.ts';
import { nameOf } from './wording.ts';

/** Handles `event` at time `now` (ms). Ignores every event once the run has ended. */
export function master(state: MasterState, event: MasterEvent, now: number): Transition {
  if (isOver(state)) return unchanged(state);
  return handle(state, event, now);
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

function handle(state: MasterState, event: MasterEvent, now: number): Transition {
  switch (event.kind) {
    case 'message':
      return onMessage(state, event.message, now);
    case 'begin-step':
      return onBeginStep(state, event.order);
    case 'exited':
      return onExited(state, event, now);
    case 'service-failed':
      return fail(state, errorCodeOf(event.code), `${event.who} failed: ${event.message}`);
    case 'restored':
      return onRestored(state, event.tpu, event.generation, now);
    case 'rolled-back':
      return onRolledBack(state, event.generation, event.steps, now);
    case 'written':
      return onWritten(state, event);
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
