import { writeSync } from 'node:fs';
import { pino } from 'pino';
import { oneLine, plainJson } from '../../src/numerics/quote.ts';
import { type LogLevel, logLevels } from '../../src/observe/log.ts';
import { LogText } from '../../src/observe/log-text.ts';
import { blockThread } from '../host/block-thread.ts';
import type { Environment } from '../host/environment.ts';

/**
 * Values of `POD_LOG_FORMAT`: `json` prints each event as a line of JSON, `text` prints lines for
 * people.
 */
export const logFormats = ['json', 'text'] as const;

/**
 * Returns the level that `POD_LOG_LEVEL` names; `info` if the variable is not set. If the level is
 * unknown, returns `info`; the program refuses the level later, when it checks its environment.
 */
export function levelOf(env: Environment): LogLevel {
  const text = env['POD_LOG_LEVEL']?.trim();
  return logLevels.find((it) => it === text) ?? 'info';
}

/**
 * True if a line appears in a log of the given level. The summary of a run appears in every log,
 * because programs read it there.
 */
export function isShown(
  line: { readonly level?: unknown; readonly msg?: unknown },
  level: LogLevel,
): boolean {
  const number = pino.levels.values[level] ?? 0;
  return line.msg === 'summary' || (typeof line.level === 'number' && line.level >= number);
}

/** Writes at least one of the bytes and returns how many were written. Throws what Node throws. */
export type WriteBytes = (bytes: Uint8Array) => number;

/** How many times a write is repeated if the reader of the log is too slow (EAGAIN). */
const triesMax = 200;
/** Wait in ms before a write is repeated. */
const tryMs = 5;

/** Destination and format of the log lines. The default is JSON on standard output. */
export interface LogPlace {
  /** File descriptor to write to. Default 1, standard output. */
  readonly file?: number;
  /** Function to call instead of writing to `file`, for tests. */
  readonly writeBytes?: WriteBytes;
  readonly format?: (typeof logFormats)[number];
  /**
   * True if the file already ends in the middle of a line. The first line that is written then
   * starts with a newline.
   */
  readonly isCut?: boolean;
  /** Called once, when a line is dropped for the first time. `why` is the reason. */
  readonly onLoss?: (why: string) => void;
}

/**
 * Writes the lines of a logger to standard output or to a file. If the reader is slow, a line is
 * tried again for up to a second. If that fails, or if a write fails for another reason such as a
 * full disk, the line is dropped. After a dropped line, each further line is tried only once, until
 * a line can be written again. In front of that line comes a line that says how many lines were
 * dropped. pino's own output is not used, because it would wait for a slow reader for ever.
 */
export class LogOutput {
  readonly #writeBytes: WriteBytes;
  readonly #onLoss: (why: string) => void;
  /** Returns the text printed for a line of JSON; empty if the line is not shown. */
  readonly #formatted: (line: string) => string;
  /** How many lines were dropped since the log last reported dropped lines. */
  #lost = 0;
  /** How many lines were dropped so far, reported or not. */
  #lostInAll = 0;
  /**
   * True if the last line was written only in part. The next line must then start with a newline.
   */
  #isCut: boolean;

  constructor(place: LogPlace = {}) {
    const { file = 1, writeBytes, isCut = false, onLoss = () => {}, format = 'json' } = place;
    this.#writeBytes = writeBytes ?? ((bytes) => writeSync(file, bytes));
    this.#isCut = isCut;
    this.#onLoss = onLoss;
    this.#formatted = format === 'json' ? printable : textPrinter();
  }

  /**
   * Returns a LogOutput for standard output, in the format that `POD_LOG_FORMAT` names. If the
   * format is unknown, the LogOutput writes JSON; the program refuses the format later, when it
   * checks its environment.
   */
  static of(env: Environment): LogOutput {
    return new LogOutput({ format: env['POD_LOG_FORMAT']?.trim() === 'text' ? 'text' : 'json' });
  }

  /** How many lines were dropped so far, reported or not. */
  get lostInAll(): number {
    return this.#lostInAll;
  }

  /** How many lines were dropped since the log last reported dropped lines. */
  get lost(): number {
    return this.#lost;
  }

  /** Writes one log line. `line` is JSON and ends with a newline. */
  write(line: string): void {
    const news = this.#lost === 0 ? '' : this.#formatted(lostLine(this.#lost));
    const text = `${this.#isCut ? '\n' : ''}${news}${this.#formatted(line)}`;
    const failure = this.#put(Buffer.from(text));
    if (failure === undefined) {
      this.#lost = 0;
      return;
    }
    this.#lost++;
    this.#lostInAll++;
    if (this.#lostInAll === 1) this.#onLoss(reasonOf(failure));
  }

  /**
   * Writes bytes, with retries for a slow reader. Returns the error if some bytes could not be
   * written.
   */
  #put(bytes: Buffer): NodeJS.ErrnoException | undefined {
    const patience = this.#lost === 0 ? triesMax : 0;
    let at = 0;
    for (let tries = 0; at < bytes.length; ) {
      try {
        at += this.#writeBytes(bytes.subarray(at));
      } catch (cause) {
        const error = cause as NodeJS.ErrnoException;
        if (error.code !== 'EAGAIN' || tries >= patience) {
          this.#isCut ||= at > 0;
          return error;
        }
        tries++;
        blockThread(tryMs);
      }
    }
    this.#isCut = false;
    return undefined;
  }
}

function reasonOf({ code, message }: NodeJS.ErrnoException): string {
  return code === 'EAGAIN' ? 'nobody reads the pipe' : message;
}

/**
 * Returns a JSON line with control characters escaped and long texts shortened. A message that
 * quotes text from outside therefore cannot damage the log.
 */
function printable(line: string): string {
  return plainJson(line.length > lineLengthMax ? shortened(line) : line);
}

/**
 * Returns a function that formats lines of JSON as text. The result is empty for some lines, for
 * example for most steps.
 */
function textPrinter(): (line: string) => string {
  let printed = '';
  const write = (it: string): void => {
    printed += it;
  };
  const text = new LogText({ terminal: false, columns: 80, write }, 'reader');
  return (line) => {
    printed = '';
    text.write(line);
    return printed;
  };
}

/**
 * If a line has more characters than this, the texts in it are shortened. The limit is so large
 * that a line with the stack of an error, logged for a bug of this program, stays whole.
 */
const lineLengthMax = 16_384;

function shortened(line: string): string {
  const shorter = (_: string, value: unknown): unknown =>
    typeof value === 'string' ? oneLine(value) : value;
  return `${JSON.stringify(JSON.parse(line), shorter)}\n`;
}

function lostLine(count: number): string {
  const line = { level: 40, time: Date.now(), count, msg: 'log-lines-lost' };
  return `${JSON.stringify(line)}\n`;
}
