import { oneLine } from '../numerics/quote.ts';
import type { Blame, RunFigures, TimesFound } from './run-figures.ts';
import { decimal, share, time, unknown } from './shown.ts';

/**
 * Returns the figures of a run as rows of a table. A row has the name of a figure and its value.
 */
export function figureRows(figures: RunFigures): readonly (readonly [string, string])[] {
  const { outcome, why, committed, steps, ranAgain, stepMs, digest, eventsLost } = figures;
  const again = ranAgain === 0 ? '' : `; a step ran again ${times(ranAgain)}`;
  const rows: readonly (readonly [string, string | undefined])[] = [
    ['outcome', why === '' ? outcome : `${outcome}: ${oneLine(why, 240)}`],
    ['committed steps', `${committed} of ${steps}${again}`],
    ['wall time', `${time(figures.wallMs)}; training ${time(figures.trainingMs)}`],
    [
      'step',
      stepMs && `median ${time(stepMs.p50)}, p95 ${time(stepMs.p95)}, longest ${time(stepMs.max)}`,
    ],
    ['goodput', ofTraining(figures.goodput)],
    ['faults noticed after', figures.detection && timesText(figures.detection)],
    ['recovery time', figures.recovery && timesText(figures.recovery)],
    ['from report to commit', figures.interruption && timesText(figures.interruption)],
    ['blamed', blamedText(figures.blamed)],
    ['checkpoints', figures.checkpoints === 0 ? undefined : `${figures.checkpoints} saved`],
    ['last loss', decimal(figures.finalLoss, 4)],
    ['held-out accuracy', figures.accuracy === undefined ? undefined : share(figures.accuracy)],
    ['digest of the weights', digest === undefined ? unknown : oneLine(digest, 80)],
    ['events lost', eventsLost === 0 ? undefined : String(eventsLost)],
  ];
  return rows.flatMap(([name, value]) => (value === undefined ? [] : [[name, value] as const]));
}

function ofTraining(goodput: number | undefined): string {
  return goodput === undefined ? unknown : `${share(goodput)} of the training time`;
}

function timesText({ count, never, p50, max }: TimesFound): string {
  const all = count === 1 ? time(max) : `median ${time(p50)}, longest ${time(max)}`;
  const missing = never === 0 ? '' : `${never} of ${count} never`;
  if (never === count) return missing;
  return missing === '' ? `${all} (${count})` : `${all} (${count}); ${missing}`;
}

function blamedText(blamed: readonly Blame[]): string {
  if (blamed.length === 0) return 'nobody';
  const shown = blamed.slice(0, 12).map(({ tpu, ...counts }) => {
    const named = Object.entries(counts).filter(([, count]) => count > 0);
    const words = named.map(([kind, count]) => `${kind} ${times(count)}`);
    return `Cloud TPU ${tpu} (${words.join(', ')})`;
  });
  const more = blamed.length > shown.length ? [`${blamed.length - shown.length} more`] : [];
  return [...shown, ...more].join(', ');
}

function times(count: number): string {
  return count === 1 ? 'once' : `${count} times`;
}
