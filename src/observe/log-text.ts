import { oneLine } from '../numerics/quote.ts';
import { bytes, milliseconds } from './format.ts';
import { eventIn, type LogLine } from './log-event.ts';
import { Progress, type Screen } from './progress.ts';

/** A reader of the text of a log. */
export type LogReader =
  /** Follows a run: sees its progress and its warnings. The command prints errors itself. */
  | 'follower'
  /** Reads the log: sees every line, with its time. */
  | 'reader';

/**
 * Shows a log of JSON lines as text. Events of a training run look as they do in `pod train`; each
 * other line becomes one line of text. Durations are computed from the times in the lines.
 */
export class LogText {
  readonly #screen: Screen;
  readonly #reader: LogReader;
  readonly #progress: Progress;
  #time: number | undefined;
  /** Since the first line, in ms. Where times go back, since the wall clock was set, nothing is added. */
  #elapsedMs = 0;

  constructor(screen: Screen, reader: LogReader) {
    this.#screen = screen;
    this.#reader = reader;
    this.#progress = new Progress(this.#timed(), () => this.#elapsedMs);
  }

  /** A line, with its newline or without. */
  write(text: string): void {
    if (text.trim() === '') return;
    const line = parseLine(text);
    if (line === undefined) {
      this.#add(oneLine(text));
      return;
    }
    this.#pass(line.time);
    const event = eventIn(line);
    if (event !== undefined) this.#progress.show(event);
    else if (this.#reader === 'reader') this.#add(textOf(line));
    else if (line.level < warning) this.#progress.pass(textOf(line));
    else if (line.level < error) this.#add(textOf(line));
  }

  /** Leaves what is drawn as it is, before something else is written. */
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

  /** The screen. For a `reader` each line begins with its time. */
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

/** What a line says; undefined when it is not JSON. Its texts are without control characters. */
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

/** Time of day in UTC, as `07:05:09Z`. */
function timeOf(time: number | undefined): string {
  if (time === undefined) return '--:--:--Z';
  const seconds = Math.floor(time / 1000) % 86_400;
  const parts = [seconds / 3600, (seconds / 60) % 60, seconds % 60];
  return `${parts.map((it) => String(Math.floor(it)).padStart(2, '0')).join(':')}Z`;
}

/** Fields that are not listed at the end of a line: every line has them, or its beginning says them. */
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
