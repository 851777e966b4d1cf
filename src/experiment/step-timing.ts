import { type Phase, phases } from '../isa/executable.ts';
import { at } from '../numerics/assert.ts';
import type { StepReport } from '../pod/messages.ts';
import type { LongestPhases, Slowest, StepCommitted, StepTiming, StepTold } from './event.ts';
import type { LinkCauses } from './link-causes.ts';
import { ownMs, ownPhaseMs } from './straggler.ts';

const allReduce = phases.indexOf('all-reduce');

/**
 * Returns the effect of the slowest Cloud TPU of a step on the others. `reports` has one report for
 * each Cloud TPU. `causes` says who held up the all-reduces. `before` is the previous committed
 * step, or undefined if there is none.
 */
export function timingOf(
  reports: readonly StepReport[],
  slowest: Slowest,
  causes: LinkCauses,
  step: number,
  before: Pick<StepCommitted, 'slowest' | 'timing'> | undefined,
): StepTiming {
  const isSame = before?.slowest?.tpu === slowest.tpu;
  const slowestLink = causes.longest[slowest.tpu];
  return {
    slowestPhase: longestOf(ownPhaseMs(at(reports, slowest.tpu), causes)),
    slowestSince: isSame ? (before?.timing?.slowestSince ?? step - 1) : step,
    ...waitsOf(reports, slowest, causes),
    ...(slowestLink && { slowestLink }),
  };
}

/**
 * Returns the event of a committed step: `step` and the times of each Cloud TPU in `reports`. The
 * commit log gets `step` without these times.
 */
export function stepTold(step: StepCommitted, reports: readonly StepReport[]): StepTold {
  return {
    ...step,
    longest: longestPhases(reports),
    tpuPhaseMs: reports.map(({ phaseMs }) => phaseMs.map(inMicroseconds)),
    tpuLinkWaitMs: reports.map(({ linkWaitMs }) => linkWaitMs.map(inMicroseconds)),
  };
}

/** Returns the phase with the longest time. `phaseMs` has the time of each phase. */
function longestOf(phaseMs: readonly number[]): Phase {
  const msOf = (phase: Phase): number => at(phaseMs, phases.indexOf(phase));
  return phases.reduce((longest, phase) => (msOf(phase) > msOf(longest) ? phase : longest));
}

/**
 * Returns two means over the Cloud TPUs other than the slowest: the time that they waited for
 * others in the all-reduce, and the part of this time that the slowest one caused. The rest was
 * caused by other Cloud TPUs, or is the time that frames take on the links.
 */
function waitsOf(
  reports: readonly StepReport[],
  slowest: Slowest,
  causes: LinkCauses,
): Pick<StepTiming, 'waitMs' | 'causedMs'> {
  // The time of each Cloud TPU in the all-reduce, minus the time for which it held up the others.
  // That time is subtracted because it is not a wait.
  const reduceMs = reports.map(({ tpu, phaseMs }) =>
    Math.max(0, at(phaseMs, allReduce) - (causes.heldUpMs[tpu] ?? 0)),
  );
  const shortestMs = Math.min(...reduceMs);
  let [waitMs, causedMs, others] = [0, 0, 0];
  for (const [i, report] of reports.entries()) {
    if (report.tpu === slowest.tpu) continue;
    const waitedMs = at(reduceMs, i) - shortestMs;
    waitMs += waitedMs;
    causedMs += Math.min(waitedMs, slowest.ownMs - ownMs(report, causes));
    others++;
  }
  if (others === 0) return { waitMs: 0, causedMs: 0 };
  return { waitMs: waitMs / others, causedMs: causedMs / others };
}

/** Returns the longest time of each phase, with the Cloud TPU that took it. */
function longestPhases(reports: readonly StepReport[]): LongestPhases {
  const longestIn = (phase: Phase): LongestPhases['infeed'] => {
    const index = phases.indexOf(phase);
    const times = reports.map(({ tpu, phaseMs }) => ({ tpu, ms: at(phaseMs, index) }));
    const { tpu, ms } = times.reduce((longest, it) => (it.ms > longest.ms ? it : longest));
    return { tpu, ms: inMicroseconds(ms) };
  };
  return {
    infeed: longestIn('infeed'),
    compute: longestIn('compute'),
    'all-reduce': longestIn('all-reduce'),
    update: longestIn('update'),
    outfeed: longestIn('outfeed'),
  };
}

/** Rounds a time in ms to whole microseconds. */
function inMicroseconds(ms: number): number {
  return Math.round(ms * 1000) / 1000;
}
