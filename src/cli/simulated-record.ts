import type { PhaseMs } from '../experiment/event.ts';
import { stragglerStepsMin } from '../experiment/straggler.ts';
import { type SeenEvent, seenIn } from '../fault/seen.ts';
import type { Observation } from '../fault/verdict.ts';
import type { RunFact } from '../run/event.ts';
import type { PlannedRun } from './planned-run.ts';

/** An event of a simulated run, and its virtual time in ms. */
interface SimulatedFact {
  readonly ms: number;
  readonly fact: RunFact;
}

/**
 * Converts what was seen of a simulated run into the events of a real run, in order of time. A
 * simulation has no accuracy, no learning rate and no times of phases. In the events these values
 * are NaN.
 */
export function simulatedFacts(planned: PlannedRun, seen: Observation): readonly SimulatedFact[] {
  const ready: SimulatedFact = {
    ...{ ms: seen.beginMs, fact: { kind: 'ready', elapsedMs: seen.beginMs } },
  };
  let committed = 0;
  const told = seenIn(seen).map((event): SimulatedFact => {
    if (event.kind === 'step') committed = event.step;
    return { ms: event.ms, fact: factOf(planned, event, committed) };
  });
  // `ready` need not be the first event: if a Cloud TPU is lost while it loads, a note comes first.
  const all = [ready, ...told].sort((a, b) => a.ms - b.ms);
  return seen.outcome === 'done' ? all : [...all, failure(seen)];
}

/**
 * Converts an event that was seen in a simulation into an event of a run. `committed` is the number
 * of the last committed step.
 */
function factOf(
  { facts, options: { config }, opened }: PlannedRun,
  event: SeenEvent,
  committed: number,
): RunFact {
  switch (event.kind) {
    case 'note':
      return { kind: 'note', note: event.note };
    case 'straggler':
      return {
        ...{ kind: 'straggler', step: committed, inARow: stragglerStepsMin, tpu: event.tpu },
        ...{ ownMs: Number.NaN, othersMs: Number.NaN },
      };
    case 'step': {
      const { step, loss, digest, wallMs } = event;
      const { globalBatch } = config;
      return {
        ...{ kind: 'step', step, steps: facts.steps, loss, digest, wallMs },
        epoch: (step * globalBatch) / opened.dataset.train.size,
        ...{ accuracy: Number.NaN, learningRate: Number.NaN, phaseMs: unknownPhases },
        imagesPerSecond: (globalBatch * 1000) / wallMs,
      };
    }
  }
}

function failure({ endMs, message }: Observation): SimulatedFact {
  return { ms: endMs, fact: { kind: 'failed', code: null, message } };
}

const unknownPhases: PhaseMs = {
  ...{ infeed: Number.NaN, compute: Number.NaN, 'all-reduce': Number.NaN },
  ...{ update: Number.NaN, outfeed: Number.NaN, commit: Number.NaN },
};
