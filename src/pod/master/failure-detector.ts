import { at } from '../../numerics/assert.ts';
import type { MasterEvent } from './event.ts';
import { type Invariant, ofEachMember } from './invariant.ts';
import type { FailureDetector, MasterState, Member } from './state.ts';

/**
 * Silence of Cloud TPU `tpu`, in ms. `silentMs` is the time for which the Cloud TPU has been
 * silent. `limitMs` is the longest silence that the failure detector allows to this Cloud TPU now.
 */
export interface Silence {
  readonly tpu: number;
  readonly silentMs: number;
  readonly limitMs: number;
}

/** Takes a sample of the counters, and updates how long each Cloud TPU has been silent. */
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
 * any, also returns the Cloud TPUs that will exceed their limit in less than `sampleMsLimit`. These
 * may have failed together with the overdue ones: the measured silences of Cloud TPUs that fail at
 * the same moment can differ by the time between two samples.
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
 * True if a Cloud TPU must finish a step or leave a step. Only then does the failure detector watch
 * its progress counter. At other times the detector watches its heartbeats.
 */
function owesProgress({ phase }: MasterState, { status }: Member): boolean {
  return status === 'leaving' || (status === 'busy' && phase.kind === 'stepping');
}

/**
 * Returns the longest silence, in ms, that the failure detector allows to a Cloud TPU now. Before
 * the first step has ended, a Cloud TPU may be silent without limit while it neither runs nor
 * leaves a step. The speed of the machine is unknown until then, and loading programs may take
 * long.
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
 * with `longestSilenceMs`, the longest recent pause from which a Cloud TPU came back. So the Cloud
 * TPUs of a slow machine do not count as lost.
 */
export function silenceLimit({ options, detector }: MasterState): number {
  const { silenceMsLimit, silenceFactor } = options;
  const leastMs = detector.hasTimedStep ? silenceMsLimit : untimedFactor * silenceMsLimit;
  return Math.max(leastMs, silenceFactor * detector.longestSilenceMs);
}

/** Returns the failure detector after a commit. Each commit makes `longestSilenceMs` smaller. */
export function afterCommit(detector: FailureDetector): FailureDetector {
  return { ...detector, longestSilenceMs: silenceDecay * detector.longestSilenceMs };
}

/**
 * Each commit multiplies `longestSilenceMs` by this factor. So one slow step does not raise the
 * limit of silence for ever.
 */
const silenceDecay = 0.97;

/**
 * The limit of silence is at least `silenceMsLimit` times this factor in two cases: until the first
 * step has shown how fast the machine is, and between steps.
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
