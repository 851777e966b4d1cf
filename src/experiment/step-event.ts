import { phases } from '../isa/executable.ts';
import { assert, at } from '../numerics/assert.ts';
import { type Commit, meanPhaseMs } from '../pod/pod.ts';
import type { PhaseMs, StepCommitted } from './event.ts';
import { causesOf, linksOfSlice } from './link-causes.ts';
import type { Run } from './prepared.ts';
import { sum } from './statistics.ts';
import { timingOf } from './step-timing.ts';
import { slowestOf } from './straggler.ts';

/** `imagesPerSecond` in the event of a step is the mean over at most this number of last steps. */
const rateSteps = 16;

/** Returns the event of a committed step. `history` has all steps that were committed before. */
export function stepCommitted(
  { config, steps, trainSamples }: Run,
  commit: Commit,
  step: number,
  history: readonly StepCommitted[],
): StepCommitted {
  assert(commit.step === step - 1, `step ${commit.step} was committed, expected ${step - 1}`);
  const [loss, correct, learningRate] = at(commit.reports, 0).outfeed.map(scalar);
  const recent = history.slice(1 - rateSteps);
  const wallMs = recent.reduce((sum, it) => sum + it.wallMs, commit.wallMs);
  const causes = causesOf(commit.reports, linksOfSlice(config.topology));
  const slowest = slowestOf(commit.reports, causes);
  return {
    kind: 'step',
    step,
    steps,
    epoch: (step * config.globalBatch) / trainSamples,
    loss: loss ?? Number.NaN,
    accuracy: (correct ?? 0) / config.globalBatch,
    learningRate: learningRate ?? 0,
    digest: commit.digest,
    wallMs: commit.wallMs,
    imagesPerSecond: ((recent.length + 1) * config.globalBatch * 1000) / wallMs,
    phaseMs: phaseMsOf(commit),
    slowest,
    timing: timingOf(commit.reports, slowest, causes, step, history.at(-1)),
  };
}

/**
 * Returns the mean time of each phase over all Cloud TPUs. `commit` is not a phase of a Cloud TPU:
 * the time of `commit` is the rest of the wall time of the step. If the clock of a worker jumped,
 * the phases may seem to take longer than the step. Then the time of `commit` is 0.
 */
function phaseMsOf(commit: Commit): PhaseMs {
  const mean = meanPhaseMs(commit.reports);
  // The run keeps an object of this form for every step. The JavaScript engine stores the list of
  // fields only once for all objects made by this literal, which saves memory.
  const phaseMs = { infeed: 0, compute: 0, 'all-reduce': 0, update: 0, outfeed: 0, commit: 0 };
  for (const [i, phase] of phases.entries()) phaseMs[phase] = at(mean, i);
  phaseMs.commit = Math.max(0, commit.wallMs - sum(mean));
  return phaseMs;
}

/**
 * Returns the value of an outfeed element. The element is one f32 scalar, the same for all cores.
 */
export function scalar(element: Uint8Array): number {
  return new DataView(element.buffer, element.byteOffset, element.byteLength).getFloat32(0, true);
}
