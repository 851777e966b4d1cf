import { at } from '../../numerics/assert.ts';
import { lose } from './losses.ts';
import { type MasterState, type Member, withMember } from './state.ts';
import { fail, type Transition, unchanged } from './transition.ts';
import { describeWork, nameOf, noteOf } from './wording.ts';

/** Returns a Cloud TPU for which no worker has joined in time; undefined if there is none. */
export function overdueTpu(state: MasterState, now: number): number | undefined {
  const overdue = state.members.findIndex((member) => isOverdue(state, member, now));
  return overdue < 0 ? undefined : overdue;
}

/** True if no worker has joined for a Cloud TPU within the time limit. */
function isOverdue(state: MasterState, member: Member, now: number): boolean {
  if (member.status !== 'absent') return false;
  const { startMsLimit, quietMsLimit, recovery } = state.options;
  const absentMs = now - member.absentSinceMs;
  if (member.host !== null) return absentMs > startMsLimit;
  if (!member.awaitsFirstWorker) return absentMs > recovery.graceMsLimit;
  // This master continues the run of an earlier master. The workers may have ended with the earlier
  // master, so all of them may have to start again. That may take longer than the start of a single
  // replacement (`graceMsLimit`), so the limit is at least a quarter of `startMsLimit`.
  if (state.mustKeepParameters) return absentMs > Math.max(recovery.graceMsLimit, startMsLimit / 4);
  const isQuiet = state.lastJoinedMs !== null && now - state.lastJoinedMs > quietMsLimit;
  return absentMs > startMsLimit || (recovery.policy !== 'none' && isQuiet);
}

/**
 * Handles the case that no worker has joined for Cloud TPU `tpu` in time: asks another worker to
 * host Cloud TPU `tpu` too. If no other worker can host it at the start of a run, the run fails.
 */
export function replaceOverdue(state: MasterState, tpu: number, now: number): Transition {
  const { members, options, mustKeepParameters } = state;
  const { policy } = options.recovery;
  const canHost = policy !== 'none' && members.some(({ status }) => status !== 'absent');
  const isStart = at(members, tpu).awaitsFirstWorker && !mustKeepParameters;
  return isStart && !canHost ? failToStart(state) : adopt(state, tpu, now);
}

/**
 * Fails the run with `worker-silent` at its start: no worker has joined for some Cloud TPUs, and no
 * other worker can host them. Either no worker has joined at all, or the policy is `none`.
 */
function failToStart(state: MasterState): Transition {
  const late = state.members.flatMap(({ status }, tpu) => (status === 'absent' ? [tpu] : []));
  const who = late.map((tpu) => nameOf(state, tpu)).join(', ');
  const message = `${who} did not start within ${state.options.startMsLimit} ms`;
  return fail(state, 'worker-silent', message);
}

/**
 * Asks a joined worker to host Cloud TPU `tpu` in addition to its own Cloud TPU. If a worker was
 * asked before and has not joined for `tpu` within `startMsLimit`, counts that worker as lost.
 */
function adopt(state: MasterState, tpu: number, now: number): Transition {
  const { members, options } = state;
  const { host: before } = at(members, tpu);
  if (before !== null) {
    const what = `did not host ${nameOf(state, tpu)} within ${options.startMsLimit} ms`;
    const message = `${nameOf(state, before)} ${what}`;
    return lose(state, [{ tpu: before, code: 'worker-silent', message }], now);
  }
  const host = hostFor(members, tpu);
  if (host === undefined) return awaitHost(state, tpu, now);
  const within = at(members, tpu).awaitsFirstWorker
    ? 'no worker joined in time'
    : `no replacement joined within ${options.recovery.graceMsLimit} ms`;
  const next: MasterState = {
    ...withMember(state, tpu, { host, absentSinceMs: now }),
    recoveringSinceMs: state.recoveringSinceMs ?? now,
  };
  const cause = `${within}: the worker of ${nameOf(state, host)} hosts ${nameOf(state, tpu)} too`;
  return {
    state: next,
    actions: [noteOf(next, 'adopted', tpu, cause, now), { kind: 'adopt', tpu, host }],
  };
}

/**
 * Returns the number of the Cloud TPU whose worker is to host Cloud TPU `tpu` too. Chooses a joined
 * worker that hosts the fewest additional Cloud TPUs. Returns undefined if no worker has joined.
 */
function hostFor(members: readonly Member[], tpu: number): number | undefined {
  const hosts = members.flatMap(({ status, host }, it) =>
    status === 'absent' || host !== null ? [] : [it],
  );
  const hostedBy = (host: number): number => members.filter((it) => it.host === host).length;
  const fewest = Math.min(...hosts.map(hostedBy));
  const candidates = hosts.filter((host) => hostedBy(host) === fewest);
  return candidates[tpu % candidates.length];
}

/**
 * Handles the case that no joined worker can host Cloud TPU `tpu`. The master keeps waiting for a
 * worker. But if `tpu` has had no worker for longer than `graceMsLimit` and also longer than
 * `startMsLimit`, the run fails with `worker-exited`.
 */
function awaitHost(state: MasterState, tpu: number, now: number): Transition {
  const { recovery, startMsLimit } = state.options;
  const limitMs = Math.max(recovery.graceMsLimit, startMsLimit);
  if (now - at(state.members, tpu).absentSinceMs <= limitMs) return unchanged(state);
  const within = `no worker joined within ${limitMs} ms`;
  return fail(state, 'worker-exited', `${describeWork(state, tpu)} is lost: ${within}`);
}
