import { at } from '../numerics/assert.ts';
import type { Pod } from '../pod/pod.ts';
import { diverged } from './divergence.ts';
import type { Evaluated } from './event.ts';
import type { Run } from './prepared.ts';
import { evaluateProgram } from './program-index.ts';
import { scalar } from './step-event.ts';

/**
 * Evaluates the current weights on the held-out examples. Returns undefined if `shouldStop`
 * returned true before the evaluation was complete.
 */
export async function evaluate(
  { config, steps, testSamples }: Run,
  pod: Pod,
  shouldStop: () => boolean,
): Promise<Evaluated | undefined> {
  const totals = { correct: 0, loss: 0, samples: 0 };
  for (let step = 0; step * config.globalBatch < testSamples; step++) {
    if (shouldStop()) return undefined;
    const commit = await pod.step(evaluateProgram);
    const [correct, loss, samples] = at(commit.reports, 0).outfeed.map(scalar);
    totals.correct += correct ?? 0;
    totals.loss += loss ?? 0;
    totals.samples += samples ?? 0;
  }
  if (!Number.isFinite(totals.loss)) {
    throw diverged(steps, `a finite loss of the evaluation, found ${totals.loss}`);
  }
  return {
    kind: 'evaluated',
    step: steps,
    samples: totals.samples,
    correct: totals.correct,
    accuracy: totals.correct / totals.samples,
    loss: totals.loss / totals.samples,
  };
}
