import { at } from '../../numerics/assert.ts';
import type { FromWorker } from '../messages.ts';
import { hasParametersAfter } from '../worker.ts';
import type { MasterAction } from './action.ts';
import { loadIfAllPresent } from './loading.ts';
import { keepsParameters } from './membership.ts';
import { type MasterState, withMember } from './state.ts';
import { andThen, refuse, sendTo, type Transition } from './transition.ts';
import { nameOf, noteOf } from './wording.ts';

/**
 * Handles the message `joined`: the worker becomes part of the membership. If the worker has
 * parameters, it took part in an earlier membership and may still run a step. In this case the
 * master sends `abort` to the worker and waits for the answer `aborted`.
 */
export function onJoined(
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
  // A worker may have finished the step that was not committed. Such a worker also keeps the
  // parameters from before that step. It loses these older parameters when it begins one more step,
  // which can happen only while committed steps run again after a rollback. So `keepsBefore` is
  // true if no committed step must run again.
  const keepsBefore = state.steps.every((count, i) => count === state.committed[i]);
  const hasParameters =
    keepsParameters(recovery) &&
    hasParametersAfter(steps, state.steps, copiesParameters, keepsBefore);
  const status = steps === null ? 'present' : 'leaving';
  const { awaitsFirstWorker, host } = at(state.members, tpu);
  const here = withMember(state, tpu, {
    status,
    hasParameters,
    silentMs: 0,
    awaitsFirstWorker: false,
  });
  const joined: MasterState = host === null ? { ...here, lastJoinedMs: now } : here;
  const actions: MasterAction[] =
    steps === null ? [] : [sendTo(tpu, { kind: 'abort', generation: state.generation })];
  if (state.recoveringSinceMs !== null && !awaitsFirstWorker) {
    actions.unshift(noteOf(joined, 'replaced', tpu, `${nameOf(state, tpu)} has joined`, now));
  }
  return andThen({ state: joined, actions }, (it) => loadIfAllPresent(it, now));
}

/** Takes the answer of a worker that has left its step. */
export function onAborted(
  state: MasterState,
  message: FromWorker & { kind: 'aborted' },
  now: number,
): Transition {
  if (at(state.members, message.tpu).status !== 'leaving') {
    return refuse(state, message, 'the Cloud TPU has sent this message already');
  }
  return loadIfAllPresent(withMember(state, message.tpu, { status: 'present', silentMs: 0 }), now);
}
