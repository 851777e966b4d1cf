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
export function stragglerPeriods({ steps, incidents }: Timeline): readonly StragglerPeriod[] {
  const untilMs = new Map<number | null, number>();
  const reports = incidents.filter(({ kind }) => kind === 'straggler');
  // Reports and steps are in the order of time, so the search goes on where it ended before. A
  // search from the end for each report would take too long in a record of many steps.
  let next = 0;
  return reports.flatMap(({ tpu, ms, text }) => {
    while ((steps[next]?.to ?? Number.POSITIVE_INFINITY) <= ms) next++;
    if (ms <= (untilMs.get(tpu) ?? Number.NEGATIVE_INFINITY)) return [];
    const period = slowPeriod(steps, next, tpu, ms);
    untilMs.set(tpu, period.to);
    return [{ tpu, text, ...period }];
  });
}

/**
 * Returns the period in which a straggler was slow. The straggler was reported at the time `ms`,
 * because it was the slowest in some steps before; the period begins with these steps. It goes on
 * while the straggler is the slowest of a step. `after` is the index of the first step that was
 * committed after `ms`.
 */
function slowPeriod(
  steps: Timeline['steps'],
  after: number,
  tpu: number | null,
  ms: number,
): Period {
  const from = steps[Math.max(0, after - stragglerStepsMin)]?.from ?? ms;
  let next = after;
  while (next < steps.length && steps[next]?.slowest?.tpu === tpu) next++;
  return { from, to: Math.max(ms, steps[next - 1]?.to ?? ms) };
}
