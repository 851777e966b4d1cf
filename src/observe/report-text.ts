import { figureRows } from './figure-rows.ts';
import { columns } from './format.ts';
import type { Incident } from './incident.ts';
import { faultTable, verdictLines } from './judged-text.ts';
import { type RunReport, titleOf } from './run-report.ts';
import { time } from './shown.ts';
import { timelineText } from './timeline-text.ts';

/** Most incidents that a report of text lists. The page lists more. */
const incidentsMax = 60;

/** Returns the report of a run as lines for a terminal of `width` characters. */
export function reportLines(report: RunReport, width: number): readonly string[] {
  const { timeline, figures, run, repeat } = report;
  const { judged } = run;
  const faults =
    judged === undefined || judged.faults.length === 0 ? [] : ['', ...faultTable(judged.faults)];
  const verdicts = judged === undefined ? [] : ['', ...verdictLines(judged.verdicts)];
  return [
    titleOf(report),
    '',
    ...columns(figureRows(figures)),
    ...faults,
    ...verdicts,
    '',
    ...timelineText(timeline, width),
    ...incidentLines(timeline.incidents),
    '',
    'to repeat it:',
    `  ${repeat}`,
  ];
}

function incidentLines(incidents: readonly Incident[]): readonly string[] {
  if (incidents.length === 0) return [];
  const shown = incidents.slice(0, incidentsMax).map(({ ms, kind, tpu, step, text }) => {
    const where = [tpu === null ? [] : [`Cloud TPU ${tpu}`], step === null ? [] : [`step ${step}`]];
    return [time(ms), kind, where.flat().join(', '), text];
  });
  const more = incidents.length - shown.length;
  return ['', ...columns(shown), ...(more > 0 ? [`and ${more} more: --html FILE lists them`] : [])];
}
