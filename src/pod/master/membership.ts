import type { MasterAction } from './action.ts';
import { type Invariant, isCount, ofEachMember } from './invariant.ts';
import type { RecoveryOptions } from './options.ts';
import type { MasterPhase, MasterState, Member } from './state.ts';
import { sendTo, type Transition } from './transition.ts';

/** Begins a new membership: tells every worker that has joined to leave its step. */
export function beginMembership(state: MasterState, now: number): Transition {
  const generation = state.generation + 1;
  const isKept = keepsParameters(state.options.recovery);
  const members = state.members.map((member): Member => {
    const status = member.status === 'absent' ? 'absent' : 'leaving';
    const hasParameters = member.hasParameters && isKept;
    return { ...member, status, hasParameters, report: null, silentMs: 0 };
  });
  const next: MasterState = {
    ...state,
    generation,
    phase: { kind: 'joining', sinceMs: now },
    members,
    recoveringSinceMs: state.recoveringSinceMs ?? now,
  };
  const orders = members.flatMap(({ status }, tpu): MasterAction[] =>
    status === 'leaving' ? [sendTo(tpu, { kind: 'abort', generation })] : [],
  );
  return { state: next, actions: [{ kind: 'abort' }, ...orders] };
}

/**
 * Returns true if the Cloud TPUs that are not lost keep their parameters when a step is
 * interrupted. They do so only with the policy `replace`. With `slice-restart`, all parameters come
 * from a checkpoint, as on the hardware. With `none`, programs update parameters in place, so an
 * interrupted step may have changed some of them.
 */
export function keepsParameters({ policy }: RecoveryOptions): boolean {
  return policy === 'replace';
}

/** Statuses that a Cloud TPU can have in each phase. */
const statusesOf: Readonly<Record<MasterPhase['kind'], readonly Member['status'][]>> = {
  joining: ['absent', 'leaving', 'present'],
  'rolling-back': ['present'],
  loading: ['busy', 'ready'],
  restoring: ['busy', 'ready'],
  ready: ['ready'],
  stepping: ['busy', 'ready'],
  done: [],
  failed: [],
};

/** Invariants of a membership and of its Cloud TPUs. */
export const membershipInvariants: readonly Invariant[] = [
  {
    statement: 'the generation is at least 1, and no rollback was in a later one',
    holds: ({ generation, rolledBackGeneration }) =>
      isCount(rolledBackGeneration) &&
      isCount(generation) &&
      generation >= Math.max(1, rolledBackGeneration),
  },
  {
    statement: 'the slice keeps its number of Cloud TPUs',
    holds: ({ members, options }) => members.length === options.names.length,
  },
  ofEachMember('the status of each Cloud TPU fits the phase', ({ status }, { phase }) =>
    statusesOf[phase.kind].includes(status),
  ),
  {
    statement: 'the phase `joining` lasts until all Cloud TPUs are present, and no longer',
    holds: ({ phase, members }) =>
      phase.kind !== 'joining' || members.some(({ status }) => status !== 'present'),
  },
  ofEachMember(
    'an absent Cloud TPU has neither parameters, nor a report, nor a silence',
    ({ status, hasParameters, report, silentMs }) =>
      status !== 'absent' || (!hasParameters && report === null && silentMs === 0),
  ),
  ofEachMember(
    'a Cloud TPU that awaits its first worker is absent',
    ({ status, awaitsFirstWorker }) => !awaitsFirstWorker || status === 'absent',
  ),
  ofEachMember(
    'the worker that hosts another Cloud TPU too has joined, and has a Cloud TPU of its own',
    ({ host }, { members }) => {
      if (host === null) return true;
      const hosting = members[host];
      return hosting !== undefined && hosting.status !== 'absent' && hosting.host === null;
    },
  ),
];
