import { at } from '../../numerics/assert.ts';
import type { MasterEvent } from './event.ts';
import { type Invariant, ofEachMember } from './invariant.ts';
import type { FailureDetector, MasterState, Member } from './state.ts';

/**
 * How long Cloud TPU `tpu` has been silent (`silentMs`), and the longest silence that the failure
 * detector accepts from this Cloud TPU now (`limitMs`), in ms.
 */
export interface Silence {
  readonly tpu: number;
  readonly silentMs: number;
  readonly limitMs: number;
}

/** Measures, at a sample of the counters, how long each Cloud TPU has been silent. */
export function measureSilence(
  state: MasterState,
  { progress, heartbeats }: MasterEvent & { kind: 'sample' },
  now: number,
): MasterState {
  const elapsedMs = Math.min(now - state.detector.sampledMs, state.options.sampleMsLimit);
  let { longestSilenceMs } = state.detector;
  const members = state.members.map((member, tpu): Member => {
    const counters = owesProgress(state, member) ? progress : heartbeats;
    const counter = (counters ?? progress)[tpu] ?? 0;
    if (counters === undefined || member.status === 'absent') {
      return { ...member, counter, silentMs: 0 };
    }
    if (counter === member.counter) return { ...member, silentMs: member.silentMs + elapsedMs };
    if (state.phase.kind === 'stepping')
      longestSilenceMs = Math.max(longestSilenceMs, member.silentMs);
    return { ...member, counter, silentMs: 0 };
  });
  return { ...state, members, detector: { ...state.detector, longestSilenceMs, sampledMs: now } };
}

/**
 * Returns the Cloud TPUs whose silence exceeds their limit, the longest overdue first. If there are
 * any, also returns the Cloud TPUs that will exceed their limit in less than `sampleMsLimit`. They
 * may have failed together with the overdue ones, for example because their machine failed: the
 * measured silences of Cloud TPUs that failed together can differ by the time between two samples.
 */
export function silentTpus(state: MasterState): readonly Silence[] {
  const silences = state.members.map((member, tpu): Silence => {
    return { tpu, silentMs: member.silentMs, limitMs: limitOf(state, member) };
  });
  const longestFirst = silences.sort((a, b) => overdueMs(b) - overdueMs(a));
  if (overdueMs(at(longestFirst, 0)) <= 0) return [];
  return longestFirst.filter((it) => overdueMs(it) > -state.options.sampleMsLimit);
}

/** Time, in ms, by which a silence exceeds its limit; negative if the silence is below it. */
function overdueMs({ silentMs, limitMs }: Silence): number {
  return silentMs - limitMs;
}

/**
 * True if a Cloud TPU has a step to run or to leave. Then the failure detector watches its progress
 * counter, because a hung worker may still send heartbeats.
 */
function owesProgress({ phase }: MasterState, { status }: Member): boolean {
  return status === 'leaving' || (status === 'busy' && phase.kind === 'stepping');
}

/**
 * Returns the longest silence, in ms, that is allowed to a Cloud TPU now. Before the first step has
 * ended, a Cloud TPU without a step to run or to leave may be silent without limit: the speed of
 * the machine is unknown, and loading programs may take long.
 */
function limitOf(state: MasterState, member: Member): number {
  if (owesProgress(state, member)) return silenceLimit(state);
  const { phase, detector, options } = state;
  if (!detector.hasTimedStep) return Number.MAX_VALUE;
  const leastMs = phase.kind === 'stepping' ? 0 : untimedFactor * options.silenceMsLimit;
  return Math.max(leastMs, silenceLimit(state));
}

/**
 * Returns the longest time, in ms, that a Cloud TPU may make no progress in a step. The limit grows
 * with `longestSilenceMs`, the longest recent pause after which a Cloud TPU went on. So the Cloud
 * TPUs of a slow machine do not count as lost.
 */
export function silenceLimit({ options, detector }: MasterState): number {
  const { silenceMsLimit, silenceFactor } = options;
  const leastMs = detector.hasTimedStep ? silenceMsLimit : untimedFactor * silenceMsLimit;
  return Math.max(leastMs, silenceFactor * detector.longestSilenceMs);
}

/** Returns the failure detector after a commit: a long silence of the past counts less. */
export function afterCommit(detector: FailureDetector): FailureDetector {
  return { ...detector, longestSilenceMs: silenceDecay * detector.longestSilenceMs };
}

/**
 * Factor by which each commit makes `longestSilenceMs` smaller. So the limit of silence shrinks
 * again after one slow step, and a later loss is noticed sooner.
 */
const silenceDecay = 0.97;

/**
 * Factor on `silenceMsLimit` in two cases: until a first step has shown how fast the machine is,
 * and between steps, when the failure detector watches heartbeats.
 */
export const untimedFactor = 8;

/** Invariants of the failure detector. */
export const detectorInvariants: readonly Invariant[] = [
  {
    statement: 'the longest silence is a time',
    holds: ({ detector }) => isTime(detector.longestSilenceMs),
  },
  ofEachMember('the silence of each Cloud TPU is a time', ({ silentMs }) => isTime(silentMs)),
];

function isTime(ms: number): boolean {
  return Number.isFinite(ms) && ms >= 0;
}
