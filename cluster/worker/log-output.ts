import { writeSync } from 'node:fs';
import { oneLine, plainJson } from '../../src/numerics/quote.ts';
import { LogText } from '../../src/observe/log-text.ts';
import type { Environment } from '../host/environment.ts';

/** What `POD_LOG_FORMAT` may be: a line of JSON for each event, or text for people. */
export const logFormats = ['json', 'text'] as const;

/** Writes some of the bytes, at least one, and says how many; throws what Node throws. */
export type WriteBytes = (bytes: Uint8Array) => number;

/** How often one line is tried again where nobody reads it fast enough, and after how many ms. */
const triesMax = 200;
const tryMs = 5;

/** Where lines go: to standard output unless given. */
export interface LogPlace {
  readonly file?: number;
  /** Instead of a file, for tests. */
  readonly writeBytes?: WriteBytes;
  readonly format?: (typeof logFormats)[number];
  /** Whether what is there ends in the middle of a line. */
  readonly isCut?: boolean;
  /** Told once, when the first line is left out. */
  readonly onLoss?: (why: string) => void;
}

/**
 * Writes the lines of a logger to standard output or to a file. A line that cannot be written, because
 * the disk is full or the reader has gone, is left out, and the process goes on. The next line that can be
 * written is preceded by one that says how many were left out. For a slow reader each line waits up to a
 * second; after the first line that was left out there is no waiting until a line gets through again.
 * (The logger's own output would wait for ever.)
 */
export class LogOutput {
  readonly #writeBytes: WriteBytes;
  readonly #onLoss: (why: string) => void;
  /** What is printed for a line; nothing for some. */
  readonly #formatted: (line: string) => string;
  #lost = 0;
  #lostInAll = 0;
  /** Whether a line was cut off: the next one must not begin in it. */
  #isCut: boolean;

  constructor(place: LogPlace = {}) {
    const { file = 1, writeBytes, isCut = false, onLoss = () => {}, format = 'json' } = place;
    this.#writeBytes = writeBytes ?? ((bytes) => writeSync(file, bytes));
    this.#isCut = isCut;
    this.#onLoss = onLoss;
    this.#formatted = format === 'json' ? printable : textPrinter();
  }

  /** In the format that the environment names; whoever reads the environment refuses other names. */
  static of(env: Environment): LogOutput {
    return new LogOutput({ format: env['POD_LOG_FORMAT']?.trim() === 'text' ? 'text' : 'json' });
  }

  /** Lines that were left out, those that have been told of included. */
  get lostInAll(): number {
    return this.#lostInAll;
  }

  /** Lines that were left out so far and have not been told of. */
  get lost(): number {
    return this.#lost;
  }

  /** `line` with its newline. */
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

  /** Returns what kept it from being written, if anything did. */
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
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, tryMs);
      }
    }
    this.#isCut = false;
    return undefined;
  }
}

function reasonOf({ code, message }: NodeJS.ErrnoException): string {
  return code === 'EAGAIN' ? 'nobody reads the pipe' : message;
}

/** The last place at which a line is made plain and short, whatever it quotes. */
function printable(line: string): string {
  return plainJson(line.length > lineLengthMax ? shortened(line) : line);
}

/** Formats lines as text. Not every step gives a line. */
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

/** Longer lines have their texts shortened; stacks of our own mistakes are shorter. */
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
