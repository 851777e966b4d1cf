import { assert, at } from '../../numerics/assert.ts';
import type { FromWorker } from '../messages.ts';
import type { MasterAction } from './action.ts';
import { type Invariant, ofEachMember } from './invariant.ts';
import { beginMembership } from './membership.ts';
import { type MasterState, toPhase, withMember } from './state.ts';
import { proceed } from './stepping.ts';
import { andThen, broadcast, refuse, type Transition, unchanged } from './transition.ts';
import { nameOf, noteOf } from './wording.ts';

/**
 * Orders the programs to be loaded once every Cloud TPU is present and runs no step. But if the
 * parameters must be kept (`mustKeepParameters`) and no Cloud TPU has them, begins a rollback.
 */
export function loadIfAllPresent(state: MasterState, now: number): Transition {
  if (!state.members.every((member) => member.status === 'present')) return unchanged(state);
  const isLost = state.mustKeepParameters && !state.members.some((member) => member.hasParameters);
  if (!isLost) return load(state, now);
  return {
    state: { ...state, phase: { kind: 'rolling-back', sinceMs: now } },
    actions: [{ kind: 'rollback', generation: state.generation }],
  };
}

/** Loads the programs, after the driver has set saved parameters on all Cloud TPUs. */
export function onRolledBack(
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
  return andThen({ state: rolledBack, actions }, (it) => load(it, now));
}

/** Orders every Cloud TPU to load its programs, with new links and feeds. */
function load(state: MasterState, now: number): Transition {
  const { generation, steps } = state;
  const loading = toPhase(state, { kind: 'loading', sinceMs: now }, { status: 'busy' });
  const orders = broadcast(loading, { kind: 'load', generation, steps });
  return { state: loading, actions: [{ kind: 'reset', generation, steps }, ...orders] };
}

/**
 * Handles the answer of a Cloud TPU that has loaded its programs. When all Cloud TPUs have
 * answered, the Cloud TPUs without the right parameters get the parameters.
 */
export function onReady(
  state: MasterState,
  message: FromWorker & { kind: 'ready' },
  now: number,
): Transition {
  if (state.phase.kind !== 'loading') return refuse(state, message, 'nothing is being loaded');
  const { tpu, digests } = message;
  const isWrong = at(state.members, tpu).hasParameters && hasOtherWeights(state, digests);
  const next = withMember(state, tpu, {
    status: 'ready',
    ...(isWrong && { hasParameters: false }),
  });
  const cause = `${nameOf(state, tpu)} has other weights than those that were agreed on last`;
  const actions = isWrong ? [noteOf(next, 'suspected', tpu, cause, now)] : [];
  if (!next.members.every((member) => member.status === 'ready')) return { state: next, actions };
  return andThen({ state: next, actions }, (it) =>
    it.mustKeepParameters ? restore(it, now) : keepLoadedParameters(it, now),
  );
}

/**
 * Returns true if the weights of a Cloud TPU after loading differ from the weights at the last
 * commit. `found[i]` is the digest of the weights of program i after loading. The function skips
 * three kinds of programs: those that copy their parameters from another program, those that were
 * rolled back, and those whose digest at the commit is unknown.
 */
function hasOtherWeights(state: MasterState, found: readonly string[]): boolean {
  const { steps, committed, options } = state;
  return state.agreement.digests.some((digest, program) => {
    const isLast = at(steps, program) === at(committed, program);
    const isOwn = isLast && !at(options.copiesParameters, program) && digest !== null;
    return isOwn && found[program] !== digest;
  });
}

/**
 * Handles the end of the first loading: the parameters on the Cloud TPUs become the parameters of
 * the run. From then on they must be kept.
 */
function keepLoadedParameters(state: MasterState, now: number): Transition {
  const members = state.members.map((member) => ({ ...member, hasParameters: true }));
  return proceed({ ...state, members, mustKeepParameters: true }, now);
}

/**
 * Gives the current parameters to every Cloud TPU that does not have them.
 *
 * - Some Cloud TPUs have the parameters: the rest copy from them, spread evenly.
 * - No Cloud TPU has them, and this membership began with a rollback: nothing is copied, because
 *   the rollback has set the parameters.
 * - No Cloud TPU has them, and there was no such rollback: begins a new membership, which begins
 *   with a rollback.
 */
function restore(state: MasterState, now: number): Transition {
  const { members, generation } = state;
  const numbers = members.map((_, tpu) => tpu);
  const sources = numbers.filter((tpu) => at(members, tpu).hasParameters);
  const takers = numbers.filter((tpu) => !at(members, tpu).hasParameters);
  if (takers.length === 0) return proceed(state, now);
  if (sources.length === 0 && state.rolledBackGeneration !== generation)
    return beginMembership(state, now);
  const restoring: MasterState = {
    ...state,
    phase: { kind: 'restoring', sinceMs: now },
    members: members.map((it) => (it.hasParameters ? it : { ...it, status: 'busy', silentMs: 0 })),
  };
  const actions = takers.map((tpu, i): MasterAction => {
    return { kind: 'restore', generation, tpu, from: sources[i % sources.length] ?? null };
  });
  return { state: restoring, actions };
}

/**
 * Records that a Cloud TPU has received the parameters. When all Cloud TPUs have the parameters,
 * the run continues.
 */
export function onRestored(
  state: MasterState,
  tpu: number,
  generation: number,
  now: number,
): Transition {
  const isExpected = state.phase.kind === 'restoring' && generation === state.generation;
  if (!isExpected || at(state.members, tpu).hasParameters) return unchanged(state);
  const next = withMember(state, tpu, { hasParameters: true, status: 'ready' });
  const cause = `${nameOf(state, tpu)} has the parameters`;
  const actions = [noteOf(next, 'restored', tpu, cause, now)];
  if (!next.members.every((member) => member.hasParameters)) return { state: next, actions };
  return andThen({ state: next, actions }, (it) => proceed(it, now));
}

/** Invariants of loading and restoring: which Cloud TPUs have the parameters in which phase. */
export const loadingInvariants: readonly Invariant[] = [
  {
    statement: 'after the first loading, the parameters must be kept',
    holds: ({ phase: { kind }, mustKeepParameters }) =>
      mustKeepParameters || kind === 'joining' || kind === 'loading',
  },
  {
    statement: 'the phase `loading` lasts until all Cloud TPUs are ready, and no longer',
    holds: ({ phase, members }) =>
      phase.kind !== 'loading' || members.some(({ status }) => status === 'busy'),
  },
  {
    statement: 'parameters are copied from a Cloud TPU that has them, or come from a rollback',
    holds: ({ phase, members, generation, rolledBackGeneration }) =>
      phase.kind !== 'restoring' ||
      rolledBackGeneration === generation ||
      members.some(({ hasParameters }) => hasParameters),
  },
  ofEachMember(
    'in the phase `restoring`, the Cloud TPUs without parameters are busy, and no others',
    ({ status, hasParameters }, { phase }) =>
      phase.kind !== 'restoring' || hasParameters === (status === 'ready'),
  ),
  {
    statement:
      'the phase `restoring` lasts until all Cloud TPUs have the parameters, and no longer',
    holds: ({ phase, members }) =>
      phase.kind !== 'restoring' || members.some(({ hasParameters }) => !hasParameters),
  },
  ofEachMember(
    'every Cloud TPU has the parameters when steps run',
    ({ hasParameters }, { phase: { kind } }) =>
      hasParameters || (kind !== 'ready' && kind !== 'stepping'),
  ),
];
