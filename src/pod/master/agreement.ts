import { at } from '../../numerics/assert.ts';
import type { ErrorCode } from '../../numerics/error.ts';
import type { FromWorker, StepOrder, StepReport } from '../messages.ts';
import type { MasterEvent } from './event.ts';
import { type Invariant, isCount, ofEachMember } from './invariant.ts';
import { errorCodeOf, lose } from './losses.ts';
import { beginMembership } from './membership.ts';
import type { Agreement, MasterState } from './state.ts';
import { andThen, fail, refuse, type Transition, unchanged } from './transition.ts';
import { describeMismatch, describeWork, nameOf, noteOf } from './wording.ts';

/**
 * A Cloud TPU is replaced when the number of its suspicions reaches this value. A suspicion is a
 * wrong digest of the Cloud TPU, or an accusation by another worker.
 */
export const suspicionsMax = 2;

/**
 * Handles a step after which the digests of the Cloud TPUs differ. With the policy `none` the run
 * fails. Otherwise:
 *
 * - If more than half of the Cloud TPUs have the same digest, they are the majority. Each other
 *   Cloud TPU is at fault once more. It copies the parameters from a Cloud TPU of the majority,
 *   because its own may have been wrong before the step already. Then the step runs again.
 * - If no digest has a majority, the step runs again. If there is no majority the second time
 *   either, the run fails with `digest-mismatch`.
 */
export function onMismatch(
  state: MasterState,
  order: StepOrder,
  reports: readonly StepReport[],
  now: number,
): Transition {
  const message = describeMismatch(state, order, reports);
  if (state.options.recovery.policy === 'none') return fail(state, 'digest-mismatch', message);
  const wrong = minority(reports);
  if (wrong !== undefined) {
    const members = state.members.map((member, tpu) =>
      wrong.includes(tpu) ? { ...member, hasParameters: false } : member,
    );
    return countFaults({ ...state, members }, wrong, 'digest-mismatch', message, now);
  }
  const { stepWithoutMajority } = state.agreement;
  if (stepWithoutMajority?.program === order.program && stepWithoutMajority.step === order.step) {
    return fail(state, 'digest-mismatch', `${message}, again`);
  }
  const agreement = { ...state.agreement, stepWithoutMajority: order };
  return reportSuspects({ ...state, agreement }, [null], message, now);
}

/**
 * Handles an accusation: the worker of Cloud TPU `tpu` has reported a fault of Cloud TPU `suspect`.
 * Counts the fault. With the policy `none` the run fails instead.
 */
export function onAccused(
  state: MasterState,
  message: FromWorker & { kind: 'accused' },
  now: number,
): Transition {
  const { tpu, suspect, code } = message;
  if (suspect >= state.members.length) return refuse(state, message, 'no such Cloud TPU');
  if (at(state.members, suspect).status === 'absent')
    return refuse(state, message, 'the accused Cloud TPU is lost already');
  const what = `${describeWork(state, suspect)} is accused by ${nameOf(state, tpu)}: ${message.message}`;
  const { policy } = state.options.recovery;
  if (policy === 'none') return fail(state, errorCodeOf(code), what);
  return countFaults(state, [suspect], errorCodeOf(code), what, now);
}

/** Counts one fault of each Cloud TPU in `wrong`. A Cloud TPU is replaced at its second fault. */
function countFaults(
  state: MasterState,
  wrong: readonly number[],
  code: ErrorCode,
  message: string,
  now: number,
): Transition {
  const members = state.members.map((member, tpu) =>
    wrong.includes(tpu) ? { ...member, suspicions: member.suspicions + 1 } : member,
  );
  const counted: MasterState = { ...state, members };
  const again = wrong.filter((tpu) => at(members, tpu).suspicions >= suspicionsMax);
  if (again.length === 0) return reportSuspects(counted, wrong, message, now);
  const losses = again.map((tpu) => ({ tpu, code, message }));
  return lose(counted, losses, now, 'quarantined');
}

/**
 * Reports each Cloud TPU in `suspects` as suspected. If no single Cloud TPU is suspected,
 * `suspects` is [null]. Then begins a new membership with the same workers, so that the interrupted
 * step runs again.
 */
function reportSuspects(
  state: MasterState,
  suspects: readonly (number | null)[],
  message: string,
  now: number,
): Transition {
  const notes = suspects.map((tpu) => noteOf(state, 'suspected', tpu, message, now));
  return andThen({ state, actions: notes }, (it) => beginMembership(it, now));
}

/**
 * Returns the Cloud TPUs whose digest differs from the digest of the majority, which is more than
 * half of all Cloud TPUs. Returns undefined without a majority.
 */
function minority(reports: readonly StepReport[]): readonly number[] | undefined {
  const counts = new Map<string, number>();
  for (const { digest } of reports) counts.set(digest, (counts.get(digest) ?? 0) + 1);
  const right = [...counts].find(([, count]) => count * 2 > reports.length)?.[0];
  if (right === undefined) return undefined;
  return reports.filter(({ digest }) => digest !== right).map(({ tpu }) => tpu);
}

/** Records the digest of the parameters that the experiment has set on all Cloud TPUs. */
export function onWritten(
  state: MasterState,
  { program, digest }: MasterEvent & { kind: 'written' },
): Transition {
  const digests = withDigest(state.agreement, program, digest);
  return unchanged({ ...state, agreement: { ...state.agreement, digests } });
}

/** Returns the agreement after a commit: all Cloud TPUs have the digest `digest`. */
export function agreed(agreement: Agreement, { program }: StepOrder, digest: string): Agreement {
  return { digests: withDigest(agreement, program, digest), stepWithoutMajority: null };
}

function withDigest(
  { digests }: Agreement,
  program: number,
  digest: string | null,
): Agreement['digests'] {
  return digests.map((before, i) => (i === program ? digest : before));
}

/** Invariants of the agreement on digests, and of the counts of faults. */
export const agreementInvariants: readonly Invariant[] = [
  {
    statement: 'each program has a digest, or null',
    holds: ({ agreement, options }) => agreement.digests.length === options.copiesParameters.length,
  },
  {
    statement: 'a step without a majority is committed already, or is the next to be committed',
    holds: ({ agreement: { stepWithoutMajority: order }, committed }) =>
      order === null || order.step <= (committed[order.program] ?? -1),
  },
  ofEachMember(
    `a Cloud TPU is replaced at suspicion ${suspicionsMax}`,
    ({ suspicions }) => isCount(suspicions) && suspicions < suspicionsMax,
  ),
  ofEachMember(
    'an absent Cloud TPU is not suspected',
    ({ status, suspicions }) => status !== 'absent' || suspicions === 0,
  ),
];
