import { stragglerStepsMin } from '../experiment/straggler.ts';
import type { Period } from './run-clock.ts';
import type { Timeline } from './timeline.ts';

/** A period in which a Cloud TPU was a straggler. */
export interface StragglerPeriod extends Period {
  readonly tpu: number | null;
  /** What the report of the straggler says. */
  readonly text: string;
}

/**
 * Returns the periods in which Cloud TPUs were stragglers, in the order of their reports. A report
 * in a period of the same Cloud TPU begins no other period.
 */
export function stragglerPeriods(timeline: Timeline): readonly StragglerPeriod[] {
  const untilMs = new Map<number | null, number>();
  const reports = timeline.incidents.filter(({ kind }) => kind === 'straggler');
  return reports.flatMap(({ tpu, ms, text }) => {
    if (ms <= (untilMs.get(tpu) ?? Number.NEGATIVE_INFINITY)) return [];
    const period = slowPeriod(timeline, tpu, ms);
    untilMs.set(tpu, period.to);
    return [{ tpu, text, ...period }];
  });
}

/**
 * Returns the period in which a straggler was slow. It begins with the steps because of which the
 * straggler was reported at the time `ms`. It goes on while the straggler is the slowest of a step.
 */
function slowPeriod({ steps }: Timeline, tpu: number | null, ms: number): Period {
  const last = steps.findLastIndex(({ to }) => to <= ms);
  const from = steps[Math.max(0, last - stragglerStepsMin + 1)]?.from ?? ms;
  let next = last + 1;
  while (next < steps.length && steps[next]?.slowest?.tpu === tpu) next++;
  return { from, to: Math.max(ms, steps[next - 1]?.to ?? ms) };
}
