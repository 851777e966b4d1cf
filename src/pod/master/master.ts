import { at, broken, unreachable } from '../../numerics/assert.ts';
import type { FromWorker } from '../messages.ts';
import { agreementInvariants, onAccused, onWritten } from './agreement.ts';
import { onSample } from './deadlines.ts';
import type { MasterEvent } from './event.ts';
import { detectorInvariants } from './failure-detector.ts';
import type { Invariant } from './invariant.ts';
import { onAborted, onJoined } from './joining.ts';
import { loadingInvariants, onReady, onRestored, onRolledBack } from './loading.ts';
import { errorCodeOf, lossInvariants, onExited, onFailed } from './losses.ts';
import { membershipInvariants } from './membership.ts';
import type { MasterState } from './state.ts';
import { onBeginStep, onStepDone, steppingInvariants } from './stepping.ts';
import { broadcast, fail, refuse, type Transition, unchanged } from './transition.ts';
import { nameOf } from './wording.ts';

/** Handles `event` at time `now` (ms). Ignores every event once the run has ended. */
export function master(state: MasterState, event: MasterEvent, now: number): Transition {
  if (isOver(state)) return unchanged(state);
  const transition = handle(state, event, now);
  checkInvariants(transition.state);
  return transition;
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
 * Fails this master with `superseded`, because a worker has sent a message of a newer generation.
 * Only a newer master can have begun a newer membership, so that master leads the run now.
 */
function supersede(state: MasterState, { tpu, generation }: FromWorker): Transition {
  const found = `${nameOf(state, tpu)} is in generation ${generation}, this master in ${state.generation}`;
  return fail(state, 'superseded', `${found}: a newer master leads the run`);
}

/** True if the run has ended, in success or failure. */
export function isOver(state: MasterState): boolean {
  return state.phase.kind === 'done' || state.phase.kind === 'failed';
}

/**
 * Returns true if a new worker may join for Cloud TPU `tpu`: no worker has joined for it, and no
 * other worker was asked to host it.
 */
export function isVacant({ members }: MasterState, tpu: number): boolean {
  const { status, host } = at(members, tpu);
  return status === 'absent' && host === null;
}

/** All invariants of the master, in the groups that its files define. */
export const masterInvariants: readonly Invariant[] = [
  ...membershipInvariants,
  ...loadingInvariants,
  ...steppingInvariants,
  ...agreementInvariants,
  ...lossInvariants,
  ...detectorInvariants,
];

/**
 * Throws an AssertionError if an invariant does not hold. Checks nothing after the end of the run:
 * a failure may have left the state half changed, and nothing reads the state any more.
 */
export function checkInvariants(state: MasterState): void {
  if (isOver(state)) return;
  const violated = masterInvariants.find((invariant) => !invariant.holds(state));
  if (violated === undefined) return;
  const { generation, phase, members } = state;
  const statuses = members.map(({ status }) => status).join(', ');
  broken(
    `does not hold in generation ${generation}, phase ${phase.kind} (${statuses}): ${violated.statement}`,
  );
}
