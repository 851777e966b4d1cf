import type { Refusal } from '../experiment/checkpoint/checkpoint.ts';
import type {
  Note,
  Quantiles,
  Report,
  Resumed,
  SlowestOfRun,
  Started,
  StepCommitted,
  Straggler,
  WarmStarted,
} from '../experiment/event.ts';
import { trainProgram, wordsOfProgram } from '../experiment/program-index.ts';
import { sum } from '../experiment/statistics.ts';
import { slowestAmongOthers } from '../experiment/straggler.ts';
import type { RunFact } from '../run/event.ts';
import type { Sink } from '../run/stream.ts';
import { bytes, columns, count, counted, milliseconds, percent, table } from './format.ts';

/**
 * Output for progress text. On a terminal, the last line can be redrawn in place; it is called the
 * live line. Elsewhere, lines are only appended.
 */
export interface Screen {
  readonly terminal: boolean;
  readonly columns: number;
  write(text: string): void;
}

/**
 * Shortest time between two displayed steps, in ms: `redrawMs` if the output is a terminal,
 * otherwise `lineMs`.
 */
const redrawMs = 100;
const lineMs = 2000;

/**
 * Shows a training run to people: first a description of the run, then a live line with the latest
 * step, and at the end tables of the results.
 */
export class Progress implements Sink {
  readonly #screen: Screen;
  readonly #now: () => number;
  #shownMs = Number.NEGATIVE_INFINITY;
  #live = false;

  /** `now` returns the wall time in ms. */
  constructor(screen: Screen, now: () => number) {
    this.#screen = screen;
    this.#now = now;
  }

  take(event: RunFact): void {
    switch (event.kind) {
      case 'started':
        for (const line of opening(event)) this.#line(line);
        return;
      case 'ready':
        this.#line(`compiled and loaded in ${milliseconds(event.elapsedMs)}`);
        return;
      case 'warm-started':
        for (const line of warmStart(event)) this.#line(line);
        return;
      case 'resumed':
        for (const line of resumption(event)) this.#line(line);
        return;
      case 'step':
        this.#step(event);
        return;
      case 'checkpoint':
        this.#line(
          `saved ${event.name}: ${bytes(event.bytes)} in ${milliseconds(event.wallMs)}, in the background`,
        );
        return;
      case 'straggler':
        this.#line(stragglerLine(event));
        return;
      case 'checkpoint-failed':
        this.#line(`not saved: ${event.reason}`);
        return;
      case 'checkpoint-refused':
        this.#line(refusalLine(event));
        return;
      case 'evaluating':
        this.#redraw(`evaluating on ${count(event.samples)} held-out images`);
        return;
      case 'evaluated':
        this.#line(
          `evaluated after step ${event.step}: ${percent(event.accuracy)} of ${count(event.samples)} held-out images are right, loss ${event.loss.toFixed(4)}`,
        );
        return;
      case 'note':
        this.#line(noteLine(event.note));
        return;
      case 'stopped':
        this.#line(
          `stopped after step ${event.step} of ${event.steps}${event.saved ? '; saved: --resume continues from here' : ''}`,
        );
        return;
      case 'finished':
        for (const line of closing(event.report)) this.#line(line);
        return;
      case 'pod':
      case 'failed':
        // Not shown. A `pod` event (an event of the cluster) is only for the log. A `failed` event
        // is the error that ended the run, which the command itself prints.
        return;
    }
  }

  /** Shows a line that does not come from an event of the run. */
  add(text: string): void {
    this.#line(text);
  }

  /**
   * Shows text as the live line, until the next line replaces it. Shows nothing if the screen is
   * not a terminal.
   */
  pass(text: string): void {
    if (this.#screen.terminal) this.#redraw(text);
  }

  /**
   * Ends the live line with a newline, so that other output can follow. The live line is the last
   * line of a terminal, which is redrawn in place.
   */
  end(): void {
    if (this.#live) this.#screen.write('\n');
    this.#live = false;
  }

  #step(event: StepCommitted): void {
    const interval = this.#screen.terminal ? redrawMs : lineMs;
    const shown = this.#now() - this.#shownMs < interval;
    if (shown && event.step !== event.steps && event.step !== 1) return;
    this.#shownMs = this.#now();
    const line = stepLine(event);
    if (this.#screen.terminal && event.step !== event.steps) this.#redraw(line);
    else this.#line(line);
  }

  #redraw(text: string): void {
    if (!this.#screen.terminal) {
      this.#line(text);
      return;
    }
    this.#screen.write(`\r\x1b[2K${text.slice(0, Math.max(1, this.#screen.columns - 1))}`);
    this.#live = true;
  }

  #line(text: string): void {
    this.#screen.write(`${this.#live ? '\r\x1b[2K' : ''}${text}\n`);
    this.#live = false;
  }
}

function opening(event: Started): string[] {
  const { config, tpus } = event;
  const { columns, rows } = config.topology;
  return [
    `${config.model} on ${config.data}: ${count(event.steps)} steps of ${count(config.globalBatch)} images, ${count(event.parameters)} parameters, seed ${config.seed}`,
    `${counted(tpus, 'Cloud TPU')} (${columns}x${rows}): ${4 * tpus} chips on a ${2 * columns}×${2 * rows} torus, ${8 * tpus} cores; HBM ${bytes(event.hbmBytesPerCore)} of ${bytes(event.hbmLimitBytes)} a core`,
  ];
}

function resumption({ checkpoint, step, refused }: Resumed): string[] {
  return [...refused.map(refusalLine), whereFrom(checkpoint, step)];
}

function warmStart({ checkpoint, weightsDigest, refused }: WarmStarted): string[] {
  const state = 'with a fresh optimizer state';
  return [
    ...refused.map(refusalLine),
    `begins with the weights of ${checkpoint} (digest ${weightsDigest}), ${state}`,
  ];
}

/** Returns the line about a Cloud TPU that is slower than the others. */
function stragglerLine(event: Straggler): string {
  const { tpu, inARow, ownMs, othersMs, slowestPhase, causedMs } = event;
  const times = `${milliseconds(ownMs)} of its own work a step, the others ${milliseconds(othersMs)}`;
  const most = slowestPhase === undefined ? '' : `, mostly ${ownPhaseName(slowestPhase)}`;
  const wait = causedMs === undefined ? '' : `; each waits ${milliseconds(causedMs)} for it`;
  return `straggler: Cloud TPU ${tpu} was the slowest for ${inARow} steps: ${times}${most}${wait}`;
}

function refusalLine({ name, reason }: Refusal): string {
  return `refused ${name}: ${reason}`;
}

function whereFrom(checkpoint: string | null, step: number): string {
  if (checkpoint !== null) return `continues from ${checkpoint}, after step ${step}`;
  if (step > 0) return `continues after step ${step}, the last committed step`;
  return 'no checkpoint to continue from: the run begins at its first step';
}

function noteLine({ event, generation, program, step, tpu, cause, elapsedMs }: Note): string {
  const who = tpu === null ? 'the slice' : `Cloud TPU ${tpu}`;
  const { unit, name } = wordsOfProgram(program ?? trainProgram);
  const when = step === null ? '' : ` in ${unit} ${step + 1} of ${name}`;
  return `${event}: ${who}${when} (generation ${generation}, ${milliseconds(elapsedMs)}): ${cause}`;
}

function stepLine(event: StepCommitted): string {
  const width = String(event.steps).length;
  return [
    `step ${String(event.step).padStart(width)}/${event.steps}`,
    `loss ${event.loss.toFixed(4)}`,
    `accuracy ${percent(event.accuracy)}`,
    `${count(event.imagesPerSecond)} images/s`,
    `${milliseconds(event.wallMs)} a step`,
    ...slowestIn(event),
  ].join('  ');
}

/**
 * Returns the part of a step line about the slowest Cloud TPU: its number, the phase that took most
 * of its own work, and how long the others waited for it. Returns nothing for a slice of one Cloud
 * TPU. Also returns nothing for a step that an older version of the program recorded.
 */
function slowestIn(step: StepCommitted): string[] {
  const found = slowestAmongOthers(step);
  if (found === undefined) return [];
  const { slowest, timing } = found;
  const { slowestPhase, causedMs } = timing;
  const wait = `the others wait ${milliseconds(causedMs)}`;
  return [`slowest Cloud TPU ${slowest.tpu} (${ownPhaseName(slowestPhase)}), ${wait}`];
}

/** Names of the phases for people, in the order in which a step runs the phases. */
const phaseNames: Readonly<Record<keyof Report['phaseMs'], string>> = {
  infeed: 'infeed',
  compute: 'forward + backward',
  'all-reduce': 'all-reduce (waited)',
  update: 'update',
  outfeed: 'outfeed + digest',
  commit: 'commit',
};

/**
 * Returns the name of a phase of the slowest Cloud TPU. Its all-reduce is named without `(waited)`,
 * because the slowest Cloud TPU does not wait for the others.
 */
function ownPhaseName(phase: keyof Report['phaseMs']): string {
  return phase === 'all-reduce' ? phase : phaseNames[phase];
}

function closing(report: Report): string[] {
  const { stepsTrained, recoveries } = report;
  const result = [
    ['final loss', report.finalLoss.toFixed(4)],
    ['held-out accuracy', `${percent(report.evalAccuracy)} of ${count(report.evalSamples)}`],
    ...(recoveries === 0 ? [] : [['recoveries', count(recoveries)]]),
    ...(report.slowest === undefined ? [] : [['slowest Cloud TPU', slowestText(report.slowest)]]),
    ['digest of the weights', report.weightsDigest],
  ];
  if (stepsTrained > 0)
    return ['', ...times(report), '', ...columns([...rates(report), ...result])];
  const steps = `all ${count(report.steps)} steps`;
  return [`${steps} had been trained before: there was nothing to do`, '', ...columns(result)];
}

function slowestText(slowest: SlowestOfRun): string {
  const { tpu, steps, ofSteps, ownMs, othersMs, causedMs, slowestLink } = slowest;
  const own = `${milliseconds(ownMs)} of its own work, the others ${milliseconds(othersMs)}`;
  const wait = `each waited ${milliseconds(causedMs)} for it`;
  const link = slowestLink && `, longest on link ${slowestLink.link}`;
  return `${tpu}, in ${count(steps)} of ${count(ofSteps)} steps: ${own}; ${wait}${link ?? ''}`;
}

/**
 * Table of the wall times of this run's steps: one row for each phase and one row for the whole
 * step.
 */
function times({ phaseMs, stepMs }: Report): string[] {
  const rowOf = (name: string, { p50, p90, max }: Quantiles): string[] => [
    name,
    ...[p50, p90, max].map(milliseconds),
  ];
  return table([
    ['wall time of a step', 'p50', 'p90', 'max'],
    ...Object.entries(phaseNames).map(([phase, name]) =>
      rowOf(name, phaseMs[phase as keyof Report['phaseMs']]),
    ),
    rowOf('whole step', stepMs),
  ]);
}

function rates({ imagesPerSecond, hbmBytesPerCore, linkBytes }: Report): string[][] {
  const links = Object.values(linkBytes);
  const total = bytes(sum(links));
  const range = `${bytes(Math.min(...links))} to ${bytes(Math.max(...links))} a link`;
  return [
    ['images/s', count(imagesPerSecond)],
    ['HBM per core', bytes(hbmBytesPerCore)],
    [`bytes over ${links.length} directed links`, `${total}, ${range}`],
  ];
}
