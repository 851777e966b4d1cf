import { assert, at } from '../../numerics/assert.ts';
import type { FromWorker, StepOrder, StepReport, ToWorker } from '../messages.ts';
import type { MasterAction } from './action.ts';
import { agreed, onMismatch } from './agreement.ts';
import { afterCommit } from './failure-detector.ts';
import { type Invariant, isCount, ofEachMember } from './invariant.ts';
import { type MasterState, toPhase, withMember } from './state.ts';
import { andThen, broadcast, fail, refuse, type Transition, unchanged } from './transition.ts';
import { noteOf, stepName } from './wording.ts';

/** Begins the step that the experiment has requested. */
export function onBeginStep(state: MasterState, order: StepOrder): Transition {
  assert(state.phase.kind === 'ready', `a step begins when ready, not ${state.phase.kind}`);
  const next = at(state.steps, order.program);
  assert(order.step === next, `step ${order.step} begins where ${next} is next`);
  return startStep({ ...state, pending: order }, order);
}

/** Orders every Cloud TPU to run a step. */
function startStep(state: MasterState, order: StepOrder): Transition {
  const stepping = toPhase(state, { kind: 'stepping', order }, { status: 'busy', report: null });
  const message: ToWorker = { kind: 'start-step', generation: state.generation, ...order };
  return { state: stepping, actions: broadcast(stepping, message) };
}

/**
 * Continues the run once every Cloud TPU has the parameters. If committed steps must run again
 * after a rollback, starts the next of these steps. If there are none, starts the interrupted step.
 * If no step was interrupted either, goes to the phase `ready`.
 */
export function proceed(state: MasterState, now: number): Transition {
  const { steps, committed, pending, options } = state;
  const program = steps.findIndex((count, i) => count < at(committed, i));
  if (program >= 0) {
    return startStep(state, { program, step: at(steps, program), takeParameters: false });
  }
  const recovered: MasterState = { ...state, recoveringSinceMs: null };
  const what = pending === null ? 'steps may begin' : `${stepName(state, pending)} runs again`;
  const actions: MasterAction[] =
    state.recoveringSinceMs === null ? [] : [noteOf(state, 'resumed', null, what, now)];
  if (pending === null) {
    return {
      state: { ...recovered, phase: { kind: 'ready' } },
      actions: [...actions, { kind: 'ready' }],
    };
  }
  const takeParameters = at(options.copiesParameters, pending.program);
  return andThen({ state: recovered, actions }, (it) =>
    startStep(it, { ...pending, takeParameters }),
  );
}

/**
 * Takes the report of a Cloud TPU that has finished the running step. When all Cloud TPUs have
 * reported, the step ends.
 */
export function onStepDone(
  state: MasterState,
  message: FromWorker & { kind: 'step-done' },
  now: number,
): Transition {
  const { phase } = state;
  if (phase.kind !== 'stepping') return refuse(state, message, 'no step is running');
  const { program, step } = phase.order;
  if (message.program !== program || message.step !== step) {
    return refuse(state, message, `${stepName(state, phase.order)} is running`);
  }
  if (at(state.members, message.tpu).status !== 'busy')
    return refuse(state, message, 'the Cloud TPU has sent this message already');
  const { kind: _, generation: __, ...report } = message;
  const next = withMember(state, message.tpu, { status: 'ready', report });
  const reports = next.members.flatMap((member) => member.report ?? []);
  if (reports.length < next.members.length) return unchanged(next);
  return endStep(next, phase.order, reports, now);
}

/**
 * Ends a step that all Cloud TPUs have finished. If the digests differ, handles the mismatch. If
 * all digests are equal, commits the step. A step that was committed before, and ran again after a
 * rollback, is not committed a second time.
 */
function endStep(
  state: MasterState,
  order: StepOrder,
  reports: readonly StepReport[],
  now: number,
): Transition {
  const { digest } = at(reports, 0);
  if (reports.some((other) => other.digest !== digest)) {
    return onMismatch(state, order, reports, now);
  }
  const { program, step } = order;
  const { committed } = state;
  const steps = withCount(state.steps, program, step + 1);
  const moved = { ...state, steps, detector: { ...state.detector, hasTimedStep: true } };
  if (step < at(committed, program)) return repeated(moved, order, digest, now);
  return commit(moved, order, digest, reports);
}

function commit(
  state: MasterState,
  order: StepOrder,
  digest: string,
  reports: readonly StepReport[],
): Transition {
  const { program } = order;
  return {
    state: {
      ...state,
      phase: { kind: 'ready' },
      members: state.members.map((member) => ({ ...member, lossesThisStep: 0 })),
      committed: withCount(state.committed, program, order.step + 1),
      pending: null,
      agreement: agreed(state.agreement, order, digest),
      detector: afterCommit(state.detector),
    },
    actions: [{ kind: 'commit', order, digest, reports }],
  };
}

/**
 * Handles the end of a committed step that ran again after a rollback. The last step that runs
 * again must end with the digest of its commit. If the digest differs, the run fails with
 * `digest-mismatch`.
 */
function repeated(state: MasterState, order: StepOrder, digest: string, now: number): Transition {
  const { program, step } = order;
  const before = at(state.agreement.digests, program);
  const isLast = step + 1 === at(state.committed, program);
  if (isLast && before !== null && before !== digest) {
    const name = stepName(state, order);
    const message = `${name} was repeated from a checkpoint and ended with weights ${digest}, with ${before} before`;
    return fail(state, 'digest-mismatch', message);
  }
  return andThen({ state, actions: [{ kind: 'repeated', order }] }, (it) => proceed(it, now));
}

function withCount(counts: readonly number[], program: number, count: number): readonly number[] {
  return counts.map((before, i) => (i === program ? count : before));
}

/** Invariants of the requested, running and committed steps. */
export const steppingInvariants: readonly Invariant[] = [
  {
    statement: 'the steps of each program are committed, or behind the committed ones',
    holds: ({ steps, committed, options }) =>
      steps.length === options.copiesParameters.length &&
      committed.length === steps.length &&
      steps.every((count, i) => isCount(count) && count <= at(committed, i)),
  },
  {
    statement: 'a requested step follows the last commit of its program',
    holds: ({ pending, committed }) =>
      pending === null || pending.step === committed[pending.program],
  },
  {
    statement: 'in the phase `ready`, no step is requested, behind, or in recovery',
    holds: (state) =>
      state.phase.kind !== 'ready' ||
      (state.pending === null && !isBehind(state) && state.recoveringSinceMs === null),
  },
  {
    statement: 'the running step is the next of its program',
    holds: ({ phase, steps }) =>
      phase.kind !== 'stepping' || phase.order.step === steps[phase.order.program],
  },
  {
    statement: 'the requested step runs once no committed step must run again, and not before',
    holds: (state) => state.phase.kind !== 'stepping' || isRightToRun(state, state.phase.order),
  },
  {
    statement: 'a step ends when every Cloud TPU has reported',
    holds: ({ phase, members }) =>
      phase.kind !== 'stepping' || members.some(({ report }) => report === null),
  },
  ofEachMember(
    'in a step, the Cloud TPUs that are ready have reported, and no others',
    ({ status, report }, { phase }) =>
      phase.kind !== 'stepping' || (report !== null) === (status === 'ready'),
  ),
  ofEachMember(
    'a report in a step is of this step, and of its own Cloud TPU',
    ({ report }, { phase }, tpu) =>
      phase.kind !== 'stepping' || report === null || isOf(report, phase.order, tpu),
  ),
  ofEachMember(
    'a new membership has no reports of an older one',
    ({ report }, { phase: { kind } }) => report === null || kind === 'stepping' || kind === 'ready',
  ),
];

/** True if committed steps must run again after a rollback. */
function isBehind({ steps, committed }: MasterState): boolean {
  return steps.some((count, i) => count < at(committed, i));
}

function isRightToRun(state: MasterState, { program, step }: StepOrder): boolean {
  const { pending, committed, recoveringSinceMs } = state;
  if (isBehind(state)) return step < at(committed, program);
  return pending?.program === program && pending.step === step && recoveringSinceMs === null;
}

function isOf(report: StepReport, { program, step }: StepOrder, tpu: number): boolean {
  return report.program === program && report.step === step && report.tpu === tpu;
}
