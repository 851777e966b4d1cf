import { oneLine } from '../numerics/quote.ts';
import { bytes, milliseconds } from './format.ts';
import { eventIn, type LogLine } from './log-event.ts';
import { Progress, type Screen } from './progress.ts';

/** The kind of user for whom a log is shown as text. Determines which lines are shown. */
export type LogReader =
  /**
   * For a user who follows a run: shows the progress and the warnings of the run. Shows no errors,
   * because the command prints errors itself.
   */
  | 'follower'
  /** For a user who reads a log: shows every line, with its time. */
  | 'reader';

/**
 * Shows a log of JSON lines as text. A line that records an event of a training run looks as in the
 * output of `pod train`. Every other line becomes one line of text. Durations are computed from the
 * times in the log lines.
 */
export class LogText {
  readonly #screen: Screen;
  readonly #reader: LogReader;
  readonly #progress: Progress;
  #time: number | undefined;
  /**
   * Time from the first line to the current line, in ms: the sum of the times between successive
   * lines. If the wall clock was set back between two lines, their time counts as 0.
   */
  #elapsedMs = 0;

  constructor(screen: Screen, reader: LogReader) {
    this.#screen = screen;
    this.#reader = reader;
    this.#progress = new Progress(this.#timed(), () => this.#elapsedMs);
  }

  /** Shows one log line, with or without its newline. */
  write(text: string): void {
    if (text.trim() === '') return;
    const line = parseLine(text);
    if (line === undefined) {
      this.#add(oneLine(text));
      return;
    }
    this.#pass(line.time);
    const event = eventIn(line);
    if (event !== undefined) this.#progress.take(event);
    else if (this.#reader === 'reader') this.#add(textOf(line));
    else if (line.level < warning) this.#progress.pass(textOf(line));
    else if (line.level < error) this.#add(textOf(line));
  }

  /**
   * Ends the live line with a newline, so that other output can follow. The live line is the last
   * line of a terminal, which is redrawn in place.
   */
  end(): void {
    this.#progress.end();
  }

  #pass(time: number | undefined): void {
    if (time === undefined) return;
    this.#elapsedMs += Math.max(0, time - (this.#time ?? time));
    this.#time = time;
  }

  #add(line: string): void {
    this.#progress.add(line);
  }

  /**
   * Returns the screen to which the progress is written. For a `follower` this is the screen that
   * the constructor got. For a `reader` it is a screen that puts the time of the current log line
   * before each line that it shows.
   */
  #timed(): Screen {
    const screen = this.#screen;
    if (this.#reader === 'follower') return screen;
    return {
      terminal: false,
      columns: screen.columns,
      write: (text) => screen.write(text === '\n' ? text : `${timeOf(this.#time)}  ${text}`),
    };
  }
}

const warning = 40;
const error = 50;

/**
 * Parses a log line; returns undefined if the line is not a JSON object. Line breaks and control
 * characters in its strings are replaced by visible text.
 */
export function parseLine(text: string): LogLine | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text, (_, it: unknown) => (typeof it === 'string' ? oneLine(it) : it));
  } catch {
    return undefined;
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined;
  const { level, time, msg, ...fields } = value as Readonly<Record<string, unknown>>;
  return {
    level: typeof level === 'number' ? level : 30,
    time: typeof time === 'number' && Number.isFinite(time) ? time : undefined,
    msg: typeof msg === 'string' ? msg : 'no message',
    fields,
  };
}

/** Formats a time as time of day in UTC, such as `07:05:09Z`. */
function timeOf(time: number | undefined): string {
  if (time === undefined) return '--:--:--Z';
  const seconds = Math.floor(time / 1000) % 86_400;
  const parts = [seconds / 3600, (seconds / 60) % 60, seconds % 60];
  return `${parts.map((it) => String(Math.floor(it)).padStart(2, '0')).join(':')}Z`;
}

/**
 * Names of fields that are left out at the end of a displayed line, where all other fields are
 * listed. `job` and `role` would be the same in every line, `tpu` is shown at the start of the
 * line, and `stack` is too long.
 */
const told = new Set(['job', 'role', 'tpu', 'stack']);

function textOf({ level, msg, fields }: LogLine): string {
  const kind = level >= error ? 'error: ' : level >= warning ? 'warning: ' : '';
  const { tpu } = fields;
  const who = typeof tpu === 'number' ? `Cloud TPU ${tpu}: ` : '';
  const more = Object.entries(fields).filter(([name, it]) => !told.has(name) && it !== null);
  const tail = more.map(([name, value]) => fieldText(name, value)).join(', ');
  return oneLine(`${kind}${who}${msg}${tail && ` (${tail})`}`);
}

function fieldText(name: string, value: unknown): string {
  if (name === 'generation') return `generation ${value}`;
  if (typeof value === 'number' && name.endsWith('Ms')) {
    return `${name.slice(0, -2)} ${milliseconds(value)}`;
  }
  if (typeof value === 'number' && name === 'bytes') return bytes(value);
  return `${name} ${typeof value === 'object' ? JSON.stringify(value) : value}`;
}
