import { quantile } from '../experiment/statistics.ts';
import type { Period } from './run-clock.ts';
import type { TimedStep } from './timeline.ts';

/** One step, or several consecutive steps that a report shows as one. */
export interface StepBin extends Period {
  readonly steps: readonly TimedStep[];
  /** Median and longest wall time of the steps, in ms; NaN if no time is known. */
  readonly medianMs: number;
  readonly longestMs: number;
  /** True if one of the steps was interrupted, or had been committed before. */
  readonly isRepeated: boolean;
}

/**
 * Puts consecutive steps together into bins, no more than `most` + 1 of them. A repeated step has a
 * bin of its own, unless more than `most` / 2 steps were repeated.
 */
export function stepBins(steps: readonly TimedStep[], most: number): readonly StepBin[] {
  const special = steps.filter(isRepeated).length;
  const own = special <= most / 2;
  const plain = own ? steps.length - special : steps.length;
  const size = Math.max(1, Math.ceil(plain / Math.max(1, most - (own ? 2 * special : 0))));
  const bins: TimedStep[][] = [];
  let isOpen = false;
  for (const step of steps) {
    const isAlone = own && isRepeated(step);
    const last = bins.at(-1);
    if (isOpen && !isAlone && last !== undefined && last.length < size) last.push(step);
    else bins.push([step]);
    isOpen = !isAlone;
  }
  return bins.map(binOf);
}

/** True if a step was interrupted and ran again, or had been committed before. */
export function isRepeated({ attempts, isRepeated: again }: TimedStep): boolean {
  return attempts.length > 1 || again;
}

/** What an attempt of a step is: see {@link kindOfAttempt}. */
export type AttemptKind = 'step' | 'interrupted' | 'again';

/**
 * Returns the kind of attempt `index` of a step. All attempts but the last are `interrupted`. The
 * last attempt is `again` if an earlier attempt was interrupted, or if the step had been committed
 * before; otherwise it is `step`.
 */
export function kindOfAttempt(step: TimedStep, index: number): AttemptKind {
  if (index < step.attempts.length - 1) return 'interrupted';
  return isRepeated(step) ? 'again' : 'step';
}

/**
 * Returns how often a step ran, as the end of a text about the step. Empty if the step ran once.
 */
export function timesRun({ attempts }: TimedStep): string {
  return attempts.length > 1 ? `, ran ${attempts.length} times` : '';
}

function binOf(steps: readonly TimedStep[]): StepBin {
  const times = steps.map(({ wallMs }) => wallMs).filter(Number.isFinite);
  const isKnown = times.length > 0;
  return {
    ...{ steps, from: steps[0]?.from ?? 0, to: steps.at(-1)?.to ?? 0 },
    medianMs: isKnown ? quantile(times, 0.5) : Number.NaN,
    longestMs: isKnown ? quantile(times, 1) : Number.NaN,
    isRepeated: steps.some(isRepeated),
  };
}

/** Returns the name of a bin: `step 5`, or `steps 5 to 9`. */
export function nameOfBin({ steps }: StepBin): string {
  const [first, last] = [steps[0]?.step, steps.at(-1)?.step];
  return first === last ? `step ${first}` : `steps ${first} to ${last}`;
}

/**
 * Returns the `id` that a bin has on the page, to which links lead. `index` is the index of the bin
 * in the list of all bins.
 */
export function placeOfBin(index: number): string {
  return `bin-${index}`;
}
