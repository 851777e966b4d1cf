import { unreachable } from '../../numerics/assert.ts';
import { overdueTpu, replaceOverdue } from './adoption.ts';
import type { MasterEvent } from './event.ts';
import { measureSilence, silentTpus } from './failure-detector.ts';
import { type Loss, lose } from './losses.ts';
import type { MasterState, Member } from './state.ts';
import { fail, type Transition, unchanged } from './transition.ts';
import { describeWork, nameOf } from './wording.ts';

/**
 * Measures how long each Cloud TPU has been silent. Then checks all deadlines of the phase in which
 * the master is.
 */
export function onSample(
  state: MasterState,
  sample: MasterEvent & { kind: 'sample' },
  now: number,
): Transition {
  return checkDeadlines(measureSilence(state, sample, now), now);
}

function checkDeadlines(state: MasterState, now: number): Transition {
  const { phase } = state;
  switch (phase.kind) {
    case 'joining':
      return checkJoining(state, phase.sinceMs, now);
    case 'loading':
      return ifLate(state, phase.sinceMs, now, () =>
        loseLate(state, 'busy', 'did not finish loading its programs', now),
      );
    case 'restoring':
      return ifLate(state, phase.sinceMs, now, () =>
        loseLate(state, 'busy', 'did not get the parameters', now),
      );
    case 'rolling-back':
      return ifLate(state, phase.sinceMs, now, () =>
        fail(state, 'worker-silent', 'parameters were not found in time: no copy is left'),
      );
    case 'stepping':
    case 'ready':
      return checkSilence(state, now);
    case 'done':
    case 'failed':
      return unchanged(state);
    default:
      return unreachable(phase);
  }
}

/**
 * Checks a phase that began at `sinceMs`. If the phase has lasted longer than `startMsLimit`,
 * returns the result of `late`. Otherwise checks whether a Cloud TPU has been silent for too long.
 */
function ifLate(
  state: MasterState,
  sinceMs: number,
  now: number,
  late: () => Transition,
): Transition {
  return now - sinceMs > state.options.startMsLimit ? late() : checkSilence(state, now);
}

/**
 * Counts all Cloud TPUs with the status `status` as lost. `what` says, in the error message, what
 * they failed to do in time.
 */
function loseLate(
  state: MasterState,
  status: Member['status'],
  what: string,
  now: number,
): Transition {
  const { members, options } = state;
  const late = members.flatMap((member, tpu) => (member.status === status ? [tpu] : []));
  const who = late.map((tpu) => nameOf(state, tpu)).join(', ');
  const message = `${who} ${what} within ${options.startMsLimit} ms`;
  return lose(
    state,
    late.map((tpu) => ({ tpu, code: 'worker-silent', message })),
    now,
  );
}

/**
 * Checks the deadlines of the phase `joining`. If a Cloud TPU does not leave its step in time, it
 * counts as lost. If no worker joins for a Cloud TPU in time, another worker hosts the Cloud TPU,
 * or the run fails.
 */
function checkJoining(state: MasterState, sinceMs: number, now: number): Transition {
  const { members, options } = state;
  const isLate = now - sinceMs > options.startMsLimit;
  if (isLate && members.some(({ status }) => status === 'leaving')) {
    return loseLate(state, 'leaving', 'did not leave the step', now);
  }
  const overdue = overdueTpu(state, now);
  return overdue === undefined ? checkSilence(state, now) : replaceOverdue(state, overdue, now);
}

/**
 * Counts all silent Cloud TPUs as lost, in one call. So only one new membership begins if several
 * fall silent together, for example because their machine failed.
 */
function checkSilence(state: MasterState, now: number): Transition {
  const losses = silentTpus(state).map(({ tpu, silentMs, limitMs }): Loss => {
    const what = `silent: no progress for ${Math.round(silentMs)} ms, at most ${Math.round(limitMs)} expected`;
    return { tpu, code: 'worker-silent', message: `${describeWork(state, tpu)} fell ${what}` };
  });
  return losses.length === 0 ? unchanged(state) : lose(state, losses, now);
}
