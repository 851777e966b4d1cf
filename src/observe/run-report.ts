import { oneLine } from '../numerics/quote.ts';
import type { RecordedRun } from '../run/read.ts';
import { counted } from './format.ts';
import { figuresOf, type RunFigures } from './run-figures.ts';
import { type Timeline, timelineOf } from './timeline.ts';

/** What the report of a recorded run shows. */
export interface RunReport {
  /** Path of the run folder. If the folder is not kept, this is the path of the fault plan. */
  readonly name: string;
  readonly run: RecordedRun;
  readonly timeline: Timeline;
  readonly figures: RunFigures;
  /** Command line that repeats the run. */
  readonly repeat: string;
}

/** Makes the report of a recorded run. */
export function runReport(name: string, run: RecordedRun, repeat: string): RunReport {
  const timeline = timelineOf(run);
  return { name, run, timeline, figures: figuresOf(run, timeline), repeat };
}

/** Returns what the report says at its top: the network, the data and the slice. */
export function titleOf({ run: { settings, judged }, timeline: { tpus } }: RunReport): string {
  const { model, data, topology, seed } = settings.config;
  const { columns, rows } = topology;
  const slice = `${counted(tpus, 'Cloud TPU')} (${columns}x${rows})`;
  const virtual = judged?.ground === 'sim' ? ' in virtual time' : '';
  const ground = judged === undefined ? '' : `, a fault plan on the ground ${judged.ground}`;
  return `${model} on ${oneLine(data, 120)}, ${slice}, seed ${seed}${ground}${virtual}`;
}

/** The Cloud TPUs that a report has rows for, and how many it leaves out. */
export interface ShownTpus {
  readonly tpus: readonly number[];
  readonly leftOut: number;
}

/**
 * Returns the Cloud TPUs that a report has rows for, at most `most`. If the run has more, Cloud
 * TPUs with an incident are chosen first, then the others with the lowest numbers.
 */
export function shownTpus({ tpus: count, incidents }: Timeline, most: number): ShownTpus {
  const named = new Set<number>();
  for (const { tpu } of incidents) if (tpu !== null && tpu < count) named.add(tpu);
  for (let tpu = 0; tpu < count && named.size < most; tpu++) named.add(tpu);
  const tpus = [...named].slice(0, most).sort((a, b) => a - b);
  return { tpus, leftOut: count - tpus.length };
}
