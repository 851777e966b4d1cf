import type { MasterAction } from './action.ts';
import type { RecoveryOptions } from './options.ts';
import type { MasterState, Member } from './state.ts';
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
 * Returns true if a Cloud TPU can keep its parameters when a step is interrupted. False with the
 * policy `none`: programs update parameters in place, so an interrupted step may have changed any
 * parameter. False with `slice-restart`: all parameters come from a checkpoint, as on the hardware.
 */
export function keepsParameters({ policy }: RecoveryOptions): boolean {
  return policy === 'replace';
}
