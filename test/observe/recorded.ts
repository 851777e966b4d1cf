import type { Note } from '../../src/pod/master/action.ts';
import type { RecordedEvent, RunFact } from '../../src/run/event.ts';
import type { RecordedRun } from '../../src/run/read.ts';
import type { RunSettings } from '../../src/run/schema.ts';

/** Settings of a recorded run of `mlp` on 2×2 Cloud TPUs. */
export const settings: RunSettings = {
  v: 1,
  key: {
    ...{ topology: '2x2', model: 'mlp', globalBatch: 32, seed: 0, precision: 'bf16' },
    ...{ momentum: 0.9, trainDigest: 'a', startDigest: null, steps: 6, ratesDigest: 'b' },
  },
  config: {
    ...{ topology: { columns: 2, rows: 2 }, model: 'mlp', data: 'digits', globalBatch: 32 },
    ...{ length: { unit: 'steps', steps: 6 }, learningRate: 0.03, schedule: 'cosine' },
    ...{ warmUp: 0.1, momentum: 0.9, seed: 0, precision: 'bf16', mxu: 'fast' },
    ...{ recovery: 'replace', evaluate: undefined },
  },
  relaxedSimd: true,
  checkpoint: null,
};

/** An event and the time, in ms, at which it was told. */
export type Told = readonly [ms: number, fact: RunFact];

/** Returns the record of a run. `masters` has the events of each master of the run. */
export function recorded(...masters: readonly (readonly Told[])[]): RecordedRun {
  const events = masters.flatMap((told, master) =>
    told.map(([time, fact], n) => ({ v: 1, n, master, time, ...fact }) as RecordedEvent),
  );
  return { settings, events, lost: 0, report: undefined, judged: undefined };
}

const phaseMs = {
  ...{ infeed: 1, compute: 5, 'all-reduce': 2, update: 1, outfeed: 0.5, commit: 0.5 },
};

/** Returns the event of a committed step that took `wallMs`. */
export function step(number: number, wallMs: number): RunFact {
  return {
    ...{ kind: 'step', step: number, steps: 6, epoch: 1, loss: 2 / number, accuracy: 0.5 },
    ...{ learningRate: 0.03, digest: `digest ${number}`, wallMs, imagesPerSecond: 1000, phaseMs },
    slowest: { tpu: 1, ownMs: 8, othersMs: 7 },
    tpuPhaseMs: [0, 1, 2, 3].map((tpu) => [1, 5 + tpu, 2, 1, 0.5]),
  };
}

/** Returns a note about a Cloud TPU, or about the slice if `tpu` is null. */
export function note(event: Note['event'], tpu: number | null = null, cause = 'why'): RunFact {
  const of = { generation: 2, program: 0, step: 2, elapsedMs: 0 };
  return { kind: 'note', note: { event, tpu, cause, ...of } };
}
