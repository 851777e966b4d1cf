import { jsonText, oneLine, plainLine } from '../numerics/quote.ts';
import { documentText, type Element, element, hint, type Markup } from '../picture/markup.ts';
import { pictureStyle } from '../picture/palette.ts';
import { figureRows } from './figure-rows.ts';
import type { Incident } from './incident.ts';
import { faultHeads, faultRow } from './judged-text.ts';
import { type RunReport, titleOf } from './run-report.ts';
import { time, unknown } from './shown.ts';
import { nameOfBin, placeOfBin, type StepBin, stepBins, timesRun } from './step-bins.ts';
import { phaseLooks, phasesPicture, stepsToOpen, stepTimesPicture } from './step-pictures.ts';
import { clamped, type TimedStep } from './timeline.ts';
import { timelinePicture } from './timeline-picture.ts';

/** Largest number of bins on a page. A bin is one step, or several that are shown as one. */
const binsMax = 400;
/** Largest number of rows in a table of faults or of incidents. */
const incidentsMax = 1000;

/**
 * Returns the report of a run as one HTML page, which needs no other file and no network. The page
 * has no script, and its content security policy forbids scripts. So no text of a record can run as
 * a script. `what` says what the report is named after, such as `run folder` or `fault plan`.
 */
export function reportPage(report: RunReport, what = 'run folder'): string {
  const { timeline, figures, run, repeat, name } = report;
  const bins = stepBins(timeline.steps, binsMax);
  const title = titleOf(report);
  const body = [
    element('h1', {}, title),
    element('p', { class: 'muted' }, `${what} ${oneLine(name, 200)}`),
    section('Figures', wide('Figures', table(undefined, figureRows(figures)))),
    ...judgedSections(report),
    section('Timeline', wide('Timeline', timelinePicture(report, bins)), usage()),
    ...optional('Step times', stepTimesPicture(bins)),
    ...incidentSection(timeline.incidents),
    ...openedSteps(timeline.steps),
    ...stepSection(bins, timeline.steps),
    section('To repeat it', element('pre', {}, plainLine(repeat))),
    section(
      'Settings',
      details('Settings of the run', element('pre', {}, settingsText(run.settings))),
    ),
  ];
  const head = [
    element('meta', { charset: 'utf-8' }),
    element('meta', { name: 'viewport', content: 'width=device-width, initial-scale=1' }),
    element('meta', { 'http-equiv': 'Content-Security-Policy', content: policy }),
    element('title', {}, title),
    element('style', {}, `${pictureStyle}\n${pageStyle}`),
  ];
  const root = { lang: 'en', xmlns: 'http://www.w3.org/1999/xhtml' };
  return documentText(
    element('html', root, element('head', {}, ...head), element('body', {}, ...body)),
  );
}

/** Content security policy: styles of the page itself, and nothing else. */
const policy = "default-src 'none'; style-src 'unsafe-inline'";

const pageStyle = [
  'body{margin:0 auto;padding:1.2rem;max-width:1280px;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,sans-serif}',
  'h1{font-size:1.35rem;margin:.2rem 0}h2{font-size:1.05rem;margin:1.8rem 0 .5rem}.muted{color:var(--muted)}',
  'table{border-collapse:collapse;font-size:.9rem}th,td{padding:.22rem .8rem .22rem 0;text-align:left;vertical-align:top;border-bottom:1px solid var(--faint)}',
  'th{font-weight:600;white-space:nowrap}td.number{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}',
  '.scroll{overflow:auto;max-height:32rem}.wide{overflow-x:auto}.scroll th{position:sticky;top:0;background:var(--paper)}',
  '.scroll td:nth-child(-n+4){white-space:nowrap}.scroll td:last-child{min-width:14rem}',
  '.scroll td.number{min-width:0}',
  // The gradients are a shadow at each edge behind which there is more to scroll to.
  '.scroll,.wide{background:linear-gradient(to right,var(--paper) 30%,transparent) left/2rem 100% no-repeat local,linear-gradient(to left,var(--paper) 30%,transparent) right/2rem 100% no-repeat local,linear-gradient(to right,var(--faint),transparent) left/1rem 100% no-repeat,linear-gradient(to left,var(--faint),transparent) right/1rem 100% no-repeat}',
  'tr:target td,tr:target th{background:var(--faint)}details{margin:.35rem 0}summary{cursor:pointer}',
  'pre{white-space:pre-wrap;overflow-wrap:anywhere;background:var(--faint);padding:.6rem;border-radius:4px;font-size:.85rem}',
  '.holds{color:var(--green)}.broken{color:var(--vermilion);font-weight:600}a{color:var(--blue)}',
  'svg.picture.bar{width:260px;min-width:0;height:12px}',
].join('\n');

function section(title: string, ...content: readonly Markup[]): Element {
  return element('section', {}, element('h2', {}, title), ...content);
}

function optional(title: string, content: Element | undefined): readonly Element[] {
  return content === undefined ? [] : [section(title, wide(title, content))];
}

/** Returns a box that scrolls sideways if its content is wider than the page. */
function wide(label: string, content: Element): Element {
  return box('wide', label, content);
}

/** Returns a box that scrolls in both directions if its content is larger than the box. */
function scroll(label: string, content: Element): Element {
  return box('scroll', label, content);
}

/** Returns a box that scrolls. Its `tabindex` lets the arrow keys scroll it too. */
function box(kind: 'wide' | 'scroll', label: string, content: Element): Element {
  return element('div', { class: kind, tabindex: 0, role: 'region', 'aria-label': label }, content);
}

function details(summary: string, ...content: readonly Markup[]): Element {
  return element('details', {}, element('summary', {}, summary), ...content);
}

/** Returns a table. If `heads` is undefined, the first cell of each row is the name of the row. */
function table(
  heads: readonly string[] | undefined,
  rows: readonly (readonly Markup[])[],
): Element {
  const head = heads?.map((text) => element('th', { scope: 'col' }, text));
  const body = rows.map(([first = '', ...others]) => {
    const name =
      heads === undefined ? element('th', { scope: 'row' }, first) : element('td', {}, first);
    return element('tr', {}, name, ...others.map((cell) => element('td', {}, cell)));
  });
  return element(
    'table',
    {},
    ...(head === undefined ? [] : [element('thead', {}, element('tr', {}, ...head))]),
    element('tbody', {}, ...body),
  );
}

function usage(): Element {
  const text =
    'Rest the pointer on anything to read what it is. A click on a step leads to its phases below.';
  return element('p', { class: 'muted' }, text);
}

function judgedSections({ run: { judged } }: RunReport): readonly Element[] {
  if (judged === undefined) return [];
  const verdicts = judged.verdicts.map(({ expectation, holds, found }) => [
    element('span', { class: holds ? 'holds' : 'broken' }, holds ? 'holds' : 'BROKEN'),
    oneLine(expectation, 240),
    oneLine(found, 240),
  ]);
  const faults = judged.faults.slice(0, incidentsMax).map((it) => faultRow(it));
  return [
    section('Verdict', wide('Verdict', table(['', 'expectation', 'found'], verdicts))),
    ...(faults.length === 0
      ? []
      : [section('Faults', scroll('Faults', table(faultHeads, faults)))]),
  ];
}

function incidentSection(incidents: readonly Incident[]): readonly Element[] {
  if (incidents.length === 0) return [];
  const rows = incidents
    .slice(0, incidentsMax)
    .map(({ ms, kind, tpu, step, text }) => [
      time(ms),
      kind,
      tpu === null ? '' : `Cloud TPU ${tpu}`,
      step === null ? '' : String(step),
      text,
    ]);
  const left = incidents.length - rows.length;
  const more = left > 0 ? [element('p', {}, `${left} more incidents are left out.`)] : [];
  const heads = ['time', 'incident', 'of', 'step', 'what'];
  return [section('Incidents', scroll('Incidents', table(heads, rows)), ...more)];
}

function openedSteps(steps: readonly TimedStep[]): readonly Element[] {
  const opened = stepsToOpen(steps);
  if (opened.length === 0) return [];
  const all = opened.map((step, i) => {
    const summary = `step ${step.step}: ${time(step.wallMs)}${timesRun(step)}`;
    return details(summary, wide(summary, phasesPicture(`phases-${i}`, step)));
  });
  const what = 'Steps that ran again, the longest ones, the first one and one of median length.';
  return [section('Phases by Cloud TPU', element('p', { class: 'muted' }, what), ...all)];
}

type PhaseName = keyof TimedStep['phaseMs'];
const phaseNames = Object.keys(phaseLooks) as readonly PhaseName[];

function stepSection(bins: readonly StepBin[], steps: readonly TimedStep[]): readonly Element[] {
  if (bins.length === 0) return [];
  const heads = ['', 'committed at', 'wall time', 'ran', 'slowest', 'phases', ...phaseNames];
  const head = element('tr', {}, ...heads.map((text) => element('th', { scope: 'col' }, text)));
  const rows = bins.map((bin, index) => stepRow(bin, index));
  const binned = bins.length < steps.length ? [element('p', { class: 'muted' }, binsText)] : [];
  return [
    section(
      'Steps',
      ...binned,
      scroll(
        'Steps',
        element('table', {}, element('thead', {}, head), element('tbody', {}, ...rows)),
      ),
    ),
  ];
}

const binsText = 'A row of several steps shows the median wall time and the mean phases.';

function stepRow(bin: StepBin, index: number): Element {
  const { steps, to, medianMs } = bin;
  const times = meanPhases(steps);
  const [first] = steps;
  const attempts = Math.max(...steps.map(({ attempts: it }) => it.length));
  const ran = attempts > 1 ? `${attempts} times` : bin.isRepeated ? 'again' : 'once';
  const isOne = steps.length === 1 && first?.slowest !== undefined;
  const number = (text: string): Element => element('td', { class: 'number' }, text);
  return element(
    'tr',
    { id: placeOfBin(index) },
    element('th', { scope: 'row' }, nameOfBin(bin)),
    number(time(to)),
    number(time(medianMs)),
    element('td', {}, ran),
    element('td', {}, isOne ? `Cloud TPU ${first.slowest?.tpu}` : unknown),
    element('td', {}, phaseBar(times)),
    ...phaseNames.map((phase) => number(time(times[phase]))),
  );
}

/** Returns the mean time of each phase over several steps. Unknown times count as 0. */
function meanPhases(steps: readonly TimedStep[]): Readonly<Record<PhaseName, number>> {
  const mean = (phase: PhaseName): number => {
    const times = steps.map(({ phaseMs }) => phaseMs[phase]).filter(Number.isFinite);
    return times.reduce((sum, ms) => sum + clamped(ms), 0) / Math.max(1, times.length);
  };
  return Object.fromEntries(phaseNames.map((phase) => [phase, mean(phase)])) as ReturnType<
    typeof meanPhases
  >;
}

/** Draws the share of each phase in a step as a bar. */
function phaseBar(times: Readonly<Record<PhaseName, number>>): Element {
  const width = 260;
  const total = phaseNames.reduce((sum, phase) => sum + times[phase], 0);
  let x = 0;
  const parts = phaseNames.map((phase) => {
    const length = total > 0 ? (times[phase] / total) * width : 0;
    const box = element('rect', {
      class: phaseLooks[phase].tone,
      x,
      y: 0,
      width: length,
      height: 12,
    });
    x += length;
    return element('g', {}, hint(`${phase}: ${time(times[phase])}`), box);
  });
  const label = phaseNames.map((phase) => `${phase} ${time(times[phase])}`).join(', ');
  const attributes = { class: 'picture bar', role: 'img', 'aria-label': label };
  return element('svg', { ...attributes, viewBox: `0 0 ${width} 12` }, ...parts);
}

/** Most characters of the settings that a page shows. */
const settingsMax = 20_000;

function settingsText(settings: RunReport['run']['settings']): string {
  const text = jsonText(settings, 2);
  return text.length <= settingsMax ? text : `${text.slice(0, settingsMax)}…`;
}
