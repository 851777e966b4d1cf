import { at } from '../../numerics/assert.ts';
import { type ErrorCode, errorCodes } from '../../numerics/error.ts';
import type { FromWorker } from '../messages.ts';
import type { MasterAction } from './action.ts';
import type { MasterEvent } from './event.ts';
import { type Invariant, isCount, ofEachMember } from './invariant.ts';
import { beginMembership } from './membership.ts';
import { absentMember, type MasterState, type Member } from './state.ts';
import { andThen, fail, type Transition } from './transition.ts';
import { describeWork, nameOf, noteOf } from './wording.ts';

/** Loss of a Cloud TPU. If the run cannot survive the loss, it fails with `code` and `message`. */
export interface Loss {
  readonly tpu: number;
  readonly code: ErrorCode;
  readonly message: string;
}

/** Handles the end of a worker: its Cloud TPU counts as lost. */
export function onExited(
  state: MasterState,
  { tpu, reason, code = null }: MasterEvent & { kind: 'exited' },
  now: number,
): Transition {
  const message = `${describeWork(state, tpu)} exited: ${reason}`;
  const known = code === null ? 'worker-exited' : errorCodeOf(code);
  return lose(state, [{ tpu, code: known, message }], now);
}

/**
 * Handles the message `failed` of a worker: its Cloud TPU counts as lost. A message of an older
 * generation counts too.
 */
export function onFailed(
  state: MasterState,
  { tpu, code, message }: FromWorker & { kind: 'failed' },
  now: number,
): Transition {
  const failed = `${describeWork(state, tpu)} failed: ${message}`;
  return lose(state, [{ tpu, code: errorCodeOf(code), message: failed }], now);
}

/**
 * Returns `code`, the error code that a worker has reported. Returns `worker-threw` if `code` is
 * null or unknown.
 */
export function errorCodeOf(code: string | null): ErrorCode {
  return code !== null && Object.hasOwn(errorCodes, code) ? (code as ErrorCode) : 'worker-threw';
}

/**
 * Handles the loss of Cloud TPUs: begins a new membership with replacements. The run fails instead
 * in three cases: the policy is `none`; the cause is the user's input, so a replacement would fail
 * too; or a Cloud TPU was lost too often.
 */
export function lose(
  state: MasterState,
  causes: readonly Loss[],
  now: number,
  event: 'lost' | 'quarantined' = 'lost',
): Transition {
  const losses = [...causes, ...lossesOfHosted(state, causes)];
  const wrongInput = losses.find(({ code }) => isWrongInput(code));
  if (wrongInput !== undefined) return fail(state, wrongInput.code, wrongInput.message);
  const notes = losses.map(({ tpu, message }) => noteOf(state, event, tpu, message, now));
  return andThen({ state, actions: notes }, (it) => replaceOrFail(it, losses, now, event));
}

function replaceOrFail(
  state: MasterState,
  losses: readonly Loss[],
  now: number,
  event: 'lost' | 'quarantined',
): Transition {
  if (state.options.recovery.policy === 'none') {
    return fail(state, at(losses, 0).code, at(losses, 0).message);
  }
  const tooOften = losses.find((it) => isTooOften(state, it, now));
  if (tooOften !== undefined) {
    return fail(state, tooOften.code, `${tooOften.message}; it was lost too often`);
  }
  const replacements = losses.map(({ tpu, code }): MasterAction => {
    return { kind: 'replace', tpu, isSilent: event === 'lost' && code === 'worker-silent' };
  });
  return andThen({ state: withoutLost(state, losses, now), actions: replacements }, (it) =>
    beginMembership(it, now),
  );
}

/**
 * Returns the losses that follow from `causes`. If the worker of a Cloud TPU is lost, every other
 * Cloud TPU that the same worker hosts is lost too.
 */
function lossesOfHosted(state: MasterState, causes: readonly Loss[]): readonly Loss[] {
  return state.members.flatMap(({ host }, tpu): Loss[] => {
    const cause = causes.find((it) => it.tpu === host);
    if (cause === undefined || causes.some((it) => it.tpu === tpu)) return [];
    const hosted = `${nameOf(state, tpu)} is lost with ${nameOf(state, cause.tpu)}, whose worker hosts it`;
    return [{ ...cause, tpu, message: `${hosted}: ${cause.message}` }];
  });
}

/**
 * True if the cause of the error is the user's input. A replacement would then fail in the same
 * way.
 */
function isWrongInput(code: ErrorCode): boolean {
  return errorCodes[code] === errorCodes['bad-data'];
}

function isTooOften({ members, options }: MasterState, { tpu }: Loss, now: number): boolean {
  const { lossesPerStepMax, lossesPerMinuteMax } = options.recovery;
  const { lossesThisStep, lossesMs } = at(members, tpu);
  return lossesThisStep >= lossesPerStepMax || recent(lossesMs, now).length >= lossesPerMinuteMax;
}

/** Returns the state in which the lost Cloud TPUs wait for replacements. */
function withoutLost(state: MasterState, losses: readonly Loss[], now: number): MasterState {
  const members = state.members.map((member, tpu): Member => {
    if (!losses.some((loss) => loss.tpu === tpu)) return member;
    return {
      ...absentMember(now),
      lossesThisStep: member.lossesThisStep + 1,
      lossesMs: [...recent(member.lossesMs, now), now],
    };
  });
  return { ...state, members, recoveringSinceMs: state.recoveringSinceMs ?? now };
}

/** Returns the times, in ms, at which Cloud TPUs were lost during the last minute. */
function recent(lossesMs: readonly number[], now: number): readonly number[] {
  return lossesMs.filter((lossMs) => lossMs > now - 60_000);
}

/** Invariants of the counts of losses. */
export const lossInvariants: readonly Invariant[] = [
  ofEachMember(
    'no Cloud TPU was lost more often than a run survives',
    ({ lossesThisStep, lossesMs }, { options: { recovery } }) =>
      isCount(lossesThisStep) &&
      lossesThisStep <= recovery.lossesPerStepMax &&
      lossesMs.length <= recovery.lossesPerMinuteMax,
  ),
];
