import { unreachable } from '../../numerics/assert.ts';
import { overdueTpu, replaceOverdue } from './adoption.ts';
import type { MasterEvent } from './event.ts';
import { measureSilence, silentTpus } from './failure-detector.ts';
import { type Loss, lose } from './losses.ts';
import type { MasterState, Member } from './state.ts';
import { fail, type Transition, unchanged } from './transition.ts';
import { describeWork, nameOf } from './wording.ts';

/** Measures how long each Cloud TPU has been silent, then checks all deadlines of the phase. */
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
 * Returns the result of `late` if the phase, which began at `sinceMs`, has lasted longer than
 * `startMsLimit`. Otherwise checks whether any Cloud TPU has been silent for too long.
 */
function ifLate(
  state: MasterState,
  sinceMs: number,
  now: number,
  late: () => Transition,
): Transition {
  return now - sinceMs > state.options.startMsLimit ? late() : checkSilence(state, now);
}

/** Counts all Cloud TPUs with the given status as lost. `what` completes the error message. */
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
 * Checks the deadlines of the phase `joining`: for Cloud TPUs to leave their step, and for workers
 * to join. If a worker does not join in time, another worker hosts its Cloud TPU, or the run fails.
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
 * Counts the silent Cloud TPUs as lost. Cloud TPUs that fell silent together, for example because
 * their machine failed, are counted in one call, so that only one new membership begins.
 */
function checkSilence(state: MasterState, now: number): Transition {
  const losses = silentTpus(state).map(({ tpu, silentMs, limitMs }): Loss => {
    const what = `silent: no progress for ${Math.round(silentMs)} ms, at most ${Math.round(limitMs)} expected`;
    return { tpu, code: 'worker-silent', message: `${describeWork(state, tpu)} fell ${what}` };
  });
  return losses.length === 0 ? unchanged(state) : lose(state, losses, now);
}
